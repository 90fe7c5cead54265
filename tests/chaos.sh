#!/usr/bin/env bash
# Real faults in their long form: breaks a real RabbitMQ, the network and real workers while requests flow, and prints a table.
# It ends with 0 only if nothing was lost, no answer was wrong, and all recovered in time.
#
#   tests/chaos.sh                   every scenario, one after the other
#   tests/chaos.sh --only NAME       one of them (any number of these)
#   tests/chaos.sh --list            their names
#   tests/chaos.sh --short           small numbers: what tests/run.sh runs
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
deploy/rabbitmq.sh install
exec cargo test --release --locked --quiet --test chaos -- --long "$@"
