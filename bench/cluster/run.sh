#!/usr/bin/env bash
# Measures what a search costs more when its shards are on other nodes: the same data and shards in a standalone server and on
# 1, 2 and 4 data nodes behind a query node, all on this machine and its cores, the same client over gRPC.
# Prints a table, and writes everything with its conditions as JSON.
#
#   bench/cluster/run.sh                         against build/release/bin, data under build/bench-cluster
#   bench/cluster/run.sh --bin DIR --rows N --seconds S --repeat R --nodes 1 2 4 --record
#
# Needs ~/.cache/kith-datasets/sift-1m (bench/datasets/make_sift.py makes it). --record keeps the JSON under bench/baseline.
set -euo pipefail
exec python3 "$(dirname "$0")/cluster_bench.py" "$@"
