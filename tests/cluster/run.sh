#!/usr/bin/env bash
# Runs the cluster tests against real processes: coordinators, data and query nodes, on loopback and on hosts of their own
# (network namespaces joined by a bridge).
#
#   tests/cluster/run.sh --bin build/dev/bin                  everything
#   tests/cluster/run.sh --bin build/dev/bin test_faults.py   some files, or any other argument of pytest
#   tests/cluster/run.sh --bin build/release/bin --record     as for the record: a million vectors, 100 leaders killed
#
# All of it runs in namespaces of its own (network, mounts, processes), which need root or unprivileged user namespaces:
# when it ends, whatever way, nothing of it is left running and no network device remains.
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

namespaces=(unshare --net --mount --pid --fork --kill-child --mount-proc)
prepare='
    set -e
    mount -t sysfs sysfs /sys          # UCX looks there for devices: those of this namespace
    mkdir -p /run/netns
    mount -t tmpfs tmpfs /run/netns
    ip link set lo up
    exec "$@"'
for user in "" "--user --map-root-user"; do
    # shellcheck disable=SC2206
    into=("${namespaces[@]}" $user bash -c "$prepare" namespaces)
    if "${into[@]}" true 2>/dev/null; then
        exec "${into[@]}" build/integration-venv/bin/python -m pytest -c tests/cluster/pytest.ini --rootdir tests/cluster \
            "--bin=$(realpath "$bin")" --junitxml "$(dirname "$bin")/junit-cluster.xml" "${arguments[@]}"
    fi
done
echo "run.sh: this user may not make namespaces; left out" >&2
exit 77
