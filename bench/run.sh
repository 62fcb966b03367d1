#!/usr/bin/env bash
# The benchmarks by name; options go to the one named, --help says what they are.
#
#   bench/run.sh exact [options]     exact search side by side with FAISS, beside what the machine can do
#   bench/run.sh gpu [options]       exact search on a GPU side by side with PyTorch
#   bench/run.sh served [options]    a server through the real client
#   bench/run.sh transport [options] messages between nodes beside plain sockets and gRPC
#   bench/run.sh cluster [options]   searches over 1, 2 and 4 data nodes beside a standalone server
#   bench/run.sh replication [options] pauses, throughput, lag and catching up of replicas
set -euo pipefail
folder="$(cd "$(dirname "$0")" && pwd)"
case "${1-}" in
exact) exec python3 "$folder/exact/exact_bench.py" "${@:2}" ;;
gpu) exec python3 "$folder/gpu/gpu_bench.py" "${@:2}" ;;
transport) exec "$folder/transport/run.sh" "${@:2}" ;;
cluster) exec "$folder/cluster/run.sh" "${@:2}" ;;
replication) exec "$folder/replication/run.sh" "${@:2}" ;;
served) exec "$folder/served/run.sh" "${@:2}" ;;
-h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" ;;
*)
    echo "bench/run.sh: ${1:+$1 is not a benchmark: }exact, gpu, served, transport, cluster or replication (--help says more)" >&2
    exit 2
    ;;
esac
