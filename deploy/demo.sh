#!/usr/bin/env bash
# The main job, shown end to end: RabbitMQ, a scripted Operations API, the worker, 1,000 requests, and a table of what
# was expected and what was received. Needs cargo; gets RabbitMQ where there is none. Cleans up after itself.
#
# A broker that answers on CANCEL_WORKER__AMQP__URI (default amqp://guest:guest@127.0.0.1:5672/%2f) is used as it is,
# with queues of the demo's own that are deleted at the end. Otherwise a private node is started (see deploy/rabbitmq.sh).
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
pids=()
node=""
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
  elif [ -x target/release/examples/demo ]; then
    target/release/examples/demo --delete-topology || true
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

title() { printf '\n== %s\n' "$1"; }

title "Build"
cargo build --release --locked --bin cancel-worker --example demo

export CANCEL_WORKER__AMQP__TOPOLOGY__PREFIX=$prefix CANCEL_WORKER__ADMIN__LISTEN=""
title "RabbitMQ"
if target/release/cancel-worker check --online 2>/dev/null | grep -q '^ok   broker:'; then
  echo "a broker answers on the configured address: used as it is, with queues that begin with $prefix"
else
  node="$work/node"
  CANCEL_WORKER__AMQP__URI=$(deploy/rabbitmq.sh start "$node")
  export CANCEL_WORKER__AMQP__URI
  echo "a private node, started for this demo"
fi

title "Simulator and worker"
target/release/cancel-worker simulate --listen 127.0.0.1:0 >"$work/simulator.out" &
pids+=($!)
for _ in $(seq 100); do
  [ -s "$work/simulator.out" ] && break
  sleep 0.05
done
CANCEL_WORKER__API__ENDPOINT=$(head -n 1 "$work/simulator.out")
[ -n "$CANCEL_WORKER__API__ENDPOINT" ] || { echo "the simulator did not start" >&2; exit 1; }
export CANCEL_WORKER__API__ENDPOINT
target/release/cancel-worker run >/dev/null 2>"$work/worker.log" &
pids+=($!)
echo "simulator: $CANCEL_WORKER__API__ENDPOINT, worker: process ${pids[1]}"

title "Requests and answers"
target/release/examples/demo
