#!/usr/bin/env bash
# Request and reply between two processes over loopback: the transport between nodes (with and without signed frames, and
# busy polling), plain TCP sockets and gRPC unary calls, side by side. Prints a table, and writes JSON.
#
#   bench/transport/run.sh                                 against build/release/bin
#   bench/transport/run.sh --bin DIR --seconds S --rounds N --out FILE.json --record
set -euo pipefail
exec python3 "$(dirname "$0")/transport_bench.py" "$@"
