#!/usr/bin/env bash
# Runs the integration tests against real processes: kithd and kith from a build's bin folder.
#
#   tests/integration/run.sh --bin build/dev/bin              everything
#   tests/integration/run.sh --bin build/dev/bin test_cli.py  some files, or any other argument of pytest
#
# KITH_TEST_SCALE=N makes the random parts N times as long, KITH_TEST_SEED=N replays a run.
# Makes a virtual environment in build/ the first time. Writes junit-integration.xml beside the bin folder.
# Exit status: pytest's (0 all passed, 1 some failed), 2 wrong usage.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=build/dev/bin
arguments=()
while [ $# -gt 0 ]; do
    case "$1" in
        --bin) bin=${2:?--bin needs a folder}; shift 2 ;;
        -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
        test_*) arguments+=("tests/integration/$1"); shift ;;
        *) arguments+=("$1"); shift ;;
    esac
done
for program in kithd kith; do
    [ -x "$bin/$program" ] || { echo "run.sh: $bin/$program is not there; build it first" >&2; exit 2; }
done

tests/integration/venv.sh
case " ${arguments[*]:-} " in *tests/integration/*) ;; *) arguments+=(tests/integration) ;; esac
exec build/integration-venv/bin/python -m pytest -c tests/integration/pytest.ini --rootdir tests/integration \
    "--bin=$(realpath "$bin")" --junitxml "$(dirname "$bin")/junit-integration.xml" "${arguments[@]}"
