#!/usr/bin/env bash
# Measures a served collection of one million SIFT descriptors through the real client: durable load, latency and
# queries a second at 1, 16 and 64 connections, calls a second on a one-point collection, memory after sealing, restart.
# Prints a table, and writes everything with its conditions as JSON.
#
#   bench/served/run.sh                          against build/release/bin, data under build/bench-served
#   bench/served/run.sh --bin DIR --rows N --seconds S --out FILE.json
#
# Needs ~/.cache/kith-datasets/sift-1m (bench/datasets/make_sift.py makes it), 3 GB of disk, 2 GB of memory.
set -euo pipefail
exec python3 "$(dirname "$0")/bench_served.py" "$@"
