#!/usr/bin/env bash
# Runs a command in namespaces of its own (network, mounts, processes), where it may make hosts and cables (network.py). They need
# root or unprivileged user namespaces. When the command ends, whatever way, nothing of it is left running and no network
# device remains.
#
#   tests/cluster/namespaces.sh COMMAND...
#
# Exit status: the command's, or 77 when namespaces cannot be made.
set -euo pipefail

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
    if "${into[@]}" true 2>/dev/null; then exec "${into[@]}" "$@"; fi
done
echo "namespaces.sh: this user may not make namespaces; left out" >&2
exit 77
