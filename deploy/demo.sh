#!/usr/bin/env bash
# The main job, shown end to end: RabbitMQ, a scripted Operations API, the worker, 1,000 requests, and a table of what
# was expected and what was received. Needs cargo and a C compiler; gets RabbitMQ where there is none. Cleans up after
# itself, but for what cargo has built.
#
# A broker that answers on CANCEL_WORKER__AMQP__URI (default amqp://guest:guest@127.0.0.1:5672/%2f) is used as it is,
# with queues of the demo's own that are deleted at the end. Otherwise a private node is started (see deploy/rabbitmq.sh).
set -euo pipefail
cd "$(dirname "$0")/.."

programs=${CARGO_TARGET_DIR:-target}/demo
work=$(mktemp -d)
pids=()
node="" shared=""
prefix="cancel-worker-demo-$$"

clean_up() {
  local status=$?
  trap - EXIT INT TERM
  for pid in "${pids[@]}"; do
    kill -TERM "$pid" 2>/dev/null || true
  done
  for pid in "${pids[@]}"; do
    wait "$pid" 2>/dev/null || true
  done
  if [ -n "$node" ]; then
    deploy/rabbitmq.sh stop "$node" || true
  elif [ -n "$shared" ]; then
    "$programs/demo" --delete-topology || true
  fi
  if [ "$status" -ne 0 ] && [ -s "$work/worker.log" ]; then
    printf '\nthe end of the worker'"'"'s log:\n'
    tail -n 20 "$work/worker.log"
  fi
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

title() { printf '\n== %s\n' "$1" && began=$SECONDS; }
took() { printf '== done in %s s\n' "$((SECONDS - began))"; }

title "Build"
for program in cargo cc; do
  command -v "$program" >/dev/null || { echo "demo.sh: there is no $program: install Rust (https://rustup.rs) and gcc" >&2; exit 1; }
done
echo "cargo compiles the worker and some 270 crates: about two minutes on two cores, and seconds the next time."
echo "Then come RabbitMQ, the simulator, the worker, and 1,000 requests: less than a minute."
# Without optimization, and without what only tests need: see the profile and the feature in Cargo.toml.
cargo build --locked --profile demo --features demo --bin cancel-worker --bin demo
took

export CANCEL_WORKER__AMQP__TOPOLOGY__PREFIX=$prefix CANCEL_WORKER__ADMIN__LISTEN=""
title "Simulator"
"$programs/cancel-worker" simulate --listen 127.0.0.1:0 >"$work/simulator.out" &
pids+=($!)
for _ in $(seq 100); do
  [ -s "$work/simulator.out" ] && break
  sleep 0.05
done
CANCEL_WORKER__API__ENDPOINT=$(head -n 1 "$work/simulator.out")
[ -n "$CANCEL_WORKER__API__ENDPOINT" ] || { echo "the simulator did not start" >&2; exit 1; }
export CANCEL_WORKER__API__ENDPOINT
echo "a scripted Operations API: $CANCEL_WORKER__API__ENDPOINT"

title "RabbitMQ"
"$programs/cancel-worker" check --online >"$work/check.out" 2>&1 || true # it fails without a broker
if grep -q '^ok   broker:' "$work/check.out"; then
  echo "a broker answers on the configured address: used as it is, with queues that begin with $prefix"
  shared=yes
else
  echo "no broker answers on the configured address: a private node is started for this demo"
  node="$work/node"
  CANCEL_WORKER__AMQP__URI=$(deploy/rabbitmq.sh start "$node")
  export CANCEL_WORKER__AMQP__URI
fi
took

title "Worker"
"$programs/cancel-worker" run >/dev/null 2>"$work/worker.log" &
pids+=($!)
echo "process ${pids[1]}"

title "Requests and answers"
"$programs/demo"
took
printf '\nThe whole demo took %s s.\n' "$SECONDS"
