#!/usr/bin/env bash
# The long form of tests/chaos: every fault with 20,000 requests, on a release build, with a table at its end. Takes some
# 20 minutes. Arguments are passed on: --only FAULT.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
deploy/rabbitmq.sh install
exec cargo test --release --locked --test chaos -- --long "$@"
