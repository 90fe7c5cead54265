#!/usr/bin/env bash
# All checks, in one command: formatting, lints, and every test, with one private RabbitMQ node for the run.
#
#   tests/run.sh                 on the RabbitMQ that is installed
#   tests/run.sh --broker 4.0    on RabbitMQ 4.0, fetched once from Debian trixie (needs root)
#
# A fresh Debian machine needs cargo; RabbitMQ, Prometheus and a C compiler are installed where they are missing (as root
# or with sudo). CANCEL_WORKER_TEST_AMQP names a running broker to use instead of a node of our own.
# The last line counts: "N passed, N failed". A step that fails without a failing test, such as a lint or
# a test program that crashed, counts as one failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

broker=''
case $#/${1:-} in
  0/) ;;
  2/--broker) broker=$2 ;;
  *)
    echo "Usage: tests/run.sh [--broker 4.0]" >&2
    exit 2
    ;;
esac

[[ -z ${CI:-} ]] || export CARGO_TERM_COLOR=never

work=$(mktemp -d)
job='' passed=0 failed=0

# Ends what was started here, whatever ends us: the step at work with all its children, then every node below
# the run's folder, ours and those of tests that could not end theirs.
clean_up() {
  trap '' INT TERM
  if [[ -n $job ]]; then
    kill -TERM -- "-$job" 2>/dev/null || true
    wait "$job" 2>/dev/null || true
  fi
  local file
  while IFS= read -r file; do
    deploy/rabbitmq.sh stop "$(dirname "$file")" || true
  done < <(find "$work" -maxdepth 4 -type f -name node)
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# step TITLE COMMAND…: runs it, shows its title and seconds, keeps its output in $work/step.log, and counts.
step() {
  local title=$1 began=$SECONDS status=0 ok bad
  shift
  printf '\n== %s\n' "$title"
  # A job of its own, with a process group of its own: so it can be ended whole, and a signal need not wait for it.
  set -m
  (
    set +e
    "$@" 2>&1 </dev/null | tee "$work/step.log"
    exit "${PIPESTATUS[0]}"
  ) &
  job=$!
  set +m
  wait "$job" || status=$?
  job=''
  read -r ok bad < <(count_tests <"$work/step.log")
  ((status == 0 || bad > 0)) || bad=1
  passed=$((passed + ok)) failed=$((failed + bad))
  if ((status == 0)); then
    printf '== %s: done in %s s\n' "$title" "$((SECONDS - began))"
  else
    printf '== %s: FAILED after %s s\n' "$title" "$((SECONDS - began))"
  fi
}

# Sums cargo test's lines "test result: ok. 12 passed; 0 failed; …".
count_tests() {
  awk '/^test result: / { for (i = 2; i <= NF; i++) { if ($i == "passed;") ok += $(i - 1); if ($i == "failed;") bad += $(i - 1) } }
    END { print ok + 0, bad + 0 }'
}

missing() {
  printf 'tests/run.sh: %s\n' "$*" >&2
  exit 1
}

# Not a step: sudo may have to ask for a password.
install_what_is_missing() {
  command -v cargo >/dev/null || missing "there is no cargo: install Rust with rustup (https://rustup.rs)"
  cargo fmt --version >/dev/null 2>&1 || missing "the toolchain has no rustfmt: 'rustup component add rustfmt'"
  cargo clippy --version >/dev/null 2>&1 || missing "the toolchain has no clippy: 'rustup component add clippy'"
  local sudo=()
  [[ $(id -u) == 0 ]] || sudo=(sudo)
  if ! command -v cc >/dev/null; then
    command -v apt-get >/dev/null || missing "there is no C compiler (cc), which the TLS library is built with: install one"
    echo "== Installing a C compiler"
    "${sudo[@]}" sh -c 'apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install gcc libc6-dev' ||
      missing "failed to install gcc: install a C compiler as root once"
  fi
  if ! command -v openssl >/dev/null; then
    command -v apt-get >/dev/null || missing "there is no openssl command, which tests make certificates with: install it"
    echo "== Installing openssl"
    "${sudo[@]}" sh -c 'apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install openssl' ||
      missing "failed to install openssl: install it as root once"
  fi
  if ! command -v promtool >/dev/null || ! command -v prometheus >/dev/null; then
    command -v apt-get >/dev/null || missing "there is no prometheus with promtool, which tests read the metrics with: install it"
    echo "== Installing Prometheus"
    # No service is started by it.
    "${sudo[@]}" sh -c 'apt-get -qq update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install prometheus' ||
      missing "failed to install prometheus: install it as root once"
  fi
  if [[ -n $broker ]]; then
    [[ -z ${CANCEL_WORKER_TEST_AMQP:-} ]] || missing "--broker $broker is of no use while CANCEL_WORKER_TEST_AMQP names a broker: unset it"
    # Every node of this run, those that tests start themselves, too.
    RABBITMQ_BIN=$(deploy/rabbitmq.sh install --version "$broker")
    export RABBITMQ_BIN
  elif [[ -z ${CANCEL_WORKER_TEST_AMQP:-} ]]; then
    deploy/rabbitmq.sh install
  fi
}

start_broker() {
  deploy/rabbitmq.sh start "$work/broker" --owner "$$"
}

install_what_is_missing
step "Formatting" cargo fmt --check
step "Lints" cargo clippy --all-targets --all-features --locked -- -D warnings
if [[ -z ${CANCEL_WORKER_TEST_AMQP:-} ]]; then
  step "A private RabbitMQ node" start_broker
  if [[ -r $work/broker/uri ]]; then
    CANCEL_WORKER_TEST_AMQP=$(<"$work/broker/uri")
    export CANCEL_WORKER_TEST_AMQP CANCEL_WORKER_TEST_NODE=$work/broker
  fi
fi
mkdir "$work/tmp"
step "Tests" env TMPDIR="$work/tmp" cargo test --locked --no-fail-fast
problem=$(tests/clients/run.sh possible)
if [[ -z $problem ]]; then
  step "Python clients" tests/clients/run.sh
else
  printf '\n== Python clients: skipped, %s\n' "$problem"
fi

printf '\n%s passed, %s failed\n' "$passed" "$failed"
((failed == 0))
