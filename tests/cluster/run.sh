#!/usr/bin/env bash
# Runs the cluster tests against real processes: coordinators, data and query nodes, on loopback and on hosts of their own
# (network namespaces joined by a bridge).
#
#   tests/cluster/run.sh --bin build/dev/bin                  everything
#   tests/cluster/run.sh --bin build/dev/bin test_faults.py   some files, or any other argument of pytest
#   tests/cluster/run.sh --bin build/release/bin --record     as for the record: a million vectors, 100 leaders killed
#
# All of it runs in namespaces of its own (namespaces.sh): when it ends, nothing of it is left.
# Exit status: pytest's (0 all passed, 1 some failed), 2 wrong usage, 77 when namespaces cannot be made.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=build/dev/bin
arguments=()
while [ $# -gt 0 ]; do
    case "$1" in
        --bin) bin=${2:?--bin needs a folder}; shift 2 ;;
        -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
        test_*) arguments+=("tests/cluster/$1"); shift ;;
        *) arguments+=("$1"); shift ;;
    esac
done
for program in kithd kith; do
    [ -x "$bin/$program" ] || { echo "run.sh: $bin/$program is not there; build it first" >&2; exit 2; }
done
tests/integration/venv.sh
case " ${arguments[*]:-} " in *tests/cluster/*) ;; *) arguments+=(tests/cluster) ;; esac

exec tests/cluster/namespaces.sh build/integration-venv/bin/python -m pytest -c tests/cluster/pytest.ini --rootdir tests/cluster \
    "--bin=$(realpath "$bin")" --junitxml "$(dirname "$bin")/junit-cluster.xml" "${arguments[@]}"
