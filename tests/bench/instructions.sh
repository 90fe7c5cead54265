#!/usr/bin/env bash
# User-mode instructions and allocations a request, of the worker and of the thinnest loop with the same crates, counted by
# callgrind: what a change costs, untouched by whatever else the machine does.
#
#   tests/bench/instructions.sh                  a table, in some minutes
#   tests/bench/instructions.sh --prefetch 32    with the options of `cargo bench --bench throughput`
#
# valgrind, and the names in the C library that allocations are counted by, are installed where they are missing (as root or
# with sudo).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if ! command -v valgrind >/dev/null || ! compgen -G '/usr/lib/debug/.build-id/*' >/dev/null; then
  sudo=()
  [[ $(id -u) == 0 ]] || sudo=(sudo)
  command -v apt-get >/dev/null || { echo "instructions.sh: there is no valgrind, or no libc6-dbg: install them" >&2; exit 1; }
  echo "== Installing valgrind" >&2
  "${sudo[@]}" sh -c 'apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install valgrind libc6-dbg' >&2 ||
    { echo "instructions.sh: failed to install valgrind and libc6-dbg: install them as root once" >&2; exit 1; }
fi
[[ -n ${CANCEL_WORKER_TEST_AMQP:-} ]] || deploy/rabbitmq.sh install
exec cargo bench --quiet --locked --bench throughput -- --instructions "$@"
