#!/usr/bin/env bash
# Measures replication on a cluster of real processes on this machine: how long writes pause when a primary is killed, what
# acknowledged writes cost with 1, 2 and 3 replicas, how far replicas lag, how fast one that was away catches up.
# Prints a table, and writes everything with its conditions as JSON.
#
#   bench/replication/run.sh                             all parts, against build/release/bin
#   bench/replication/run.sh failover --kills 300        pauses of a writer over 300 kills of the primary, default settings
#   bench/replication/run.sh failover --fast             heartbeats of 100 ms, down after 400 ms
#   bench/replication/run.sh throughput | lag
#   bench/replication/run.sh catchup --seconds 600 --rate 5000    one that was away for ten minutes, under 5 searches a second
#   bench/replication/run.sh catchup --search-rate 0              under searches one after the other
#   bench/replication/run.sh catchup --link 1000                  every node on a host of its own, behind a link of so many Mbit/s
#   bench/replication/run.sh durability                           what a writer waits for, durability sync and async
#   bench/replication/run.sh ... --bin DIR --out FILE.json
set -euo pipefail
cd "$(dirname "$0")/../.."
tests/integration/venv.sh
python=(build/integration-venv/bin/python)
case " $* " in *" --link "*) python=(tests/cluster/namespaces.sh "${python[@]}") ;; esac
exec "${python[@]}" bench/replication/replication_bench.py "$@"
