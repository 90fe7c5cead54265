#!/usr/bin/env bash
# The official Python clients against the simulator: tests/clients/run.sh
#
# They live in a virtual environment below the target folder, made anew when requirements.txt changes.
# `tests/clients/run.sh possible` says in one line why this cannot run here, and nothing where it can.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target=${CARGO_TARGET_DIR:-target}
venv=$target/python-clients
stamp=$venv/installed-$(cksum <tests/clients/requirements.txt | tr -c '0-9\n' -)

# Makes the environment if it is not there; what went wrong is kept in $venv.log.
install() {
  [[ ! -e $stamp ]] || return 0
  mkdir -p "$target"
  rm -rf "$venv"
  {
    python3 -m venv "$venv" &&
      "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement tests/clients/requirements.txt &&
      touch "$stamp"
  } >"$venv.log" 2>&1
}

if [[ ${1:-} == possible ]]; then
  if ! command -v python3 >/dev/null; then
    echo "there is no python3"
  elif ! python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
    echo "there is no python3 of 3.9 or later with venv and pip (Debian: apt-get install python3-venv)"
  elif ! install; then
    echo "pip cannot install the clients: $(tail -n 1 "$venv.log")"
  fi
  exit
fi

install || { cat "$venv.log" >&2; exit 1; }
cargo build --locked --quiet --bin cancel-worker
exec "$venv/bin/python" tests/clients/conformance.py "$target/debug/cancel-worker"
