#!/usr/bin/env bash
# Installs what kith is built and tested with, from Debian 12's packages. Works as root and with
# sudo. Says what it installs; does nothing when everything is there.
#
#   ./install-deps.sh            what building and running needs
#   ./install-deps.sh --tests    and what tests/run.sh needs
#   ./install-deps.sh --list     prints the packages, installs nothing
set -euo pipefail

build=(gcc g++ cmake ninja-build pkg-config libgrpc-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler
    librocksdb-dev libraft-dev libconfig-dev libmicrohttpd-dev libjansson-dev libxxhash-dev libssl-dev
    libucx-dev ucx-utils libcmocka-dev python3 ca-certificates curl)
tests=(clang clang-format-14 libclang-rt-14-dev cppcheck libsimde-dev python3-venv git ccache iproute2 openssl spin
    gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user) # NEON: 56 MB to fetch, 260 MB on disk

case "${1:-}" in
    "") packages=("${build[@]}") ;;
    --tests) packages=("${build[@]}" "${tests[@]}") ;;
    --list) printf '%s\n' "${build[@]}" "${tests[@]}"; exit 0 ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0"; [ "$1" = --help ] && exit 0 || exit 2 ;;
esac

if ! command -v apt-get >/dev/null; then
    echo "install-deps.sh: apt-get is not here; install these by hand: ${packages[*]}" >&2
    exit 1
fi
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "install-deps.sh: not root and no sudo; as root run: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    sudo=(sudo)
fi
echo "installing: ${missing[*]}"
# A busy package lock (unattended upgrades) is waited for.
apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=240 -qq)
"${apt[@]}" update
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
