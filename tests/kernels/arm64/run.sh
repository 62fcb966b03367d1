#!/usr/bin/env bash
# The kernels of aarch64 (NEON, and its dot products), cross-compiled and run by qemu: conformance, the bound of codes,
# ref and the conversions, with as much as an emulator does in half a minute. Exit status 77: a tool is missing; they
# are gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user (250 MB, which install-deps.sh does not install).
#
#   tests/kernels/arm64/run.sh [BUILD-DIR]
set -euo pipefail
cd "$(dirname "$0")/../../.."
compiler=aarch64-linux-gnu-gcc emulator=qemu-aarch64
for tool in $compiler $emulator; do
    command -v "$tool" >/dev/null || { echo "arm64: skipped, $tool is missing (the head of $0 names the packages)"; exit 77; }
done
out=${1:-build/arm64}
mkdir -p "$out"
rm -f "$out"/*.o

# As cmake/KithFlags.cmake. xxHash is one header for every architecture: the machine's own, after all of aarch64's.
flags=(-std=gnu17 -D_GNU_SOURCE -DKITH_CPU_ARM64=1 -Itests/kernels/arm64 -I. -idirafter /usr/include -O2 -ffp-contract=off
    -fno-strict-aliasing -fno-omit-frame-pointer -fno-math-errno -Wall -Wextra -Werror)
sources=(kernels/*.c kernels/codes/*.c kernels/ref/*.c host/base/*.c tests/kernels/kernels_case.c
    tests/kernels/arm64/arm64_test_lib.c)
for name in detect scan codes codes_check codes_query hits candidates bound neon neondot; do sources+=("kernels/cpu/cpu_$name.c"); done
compile() { # FILE
    local isa=()
    [ "${1##*/}" = cpu_neondot.c ] && isa=(-march=armv8.2-a+dotprod)
    $compiler "${flags[@]}" "${isa[@]}" -c "$1" -o "$out/$(basename "$1" .c).o"
}
for source in "${sources[@]}"; do
    case "$source" in kernels/cuda*) ;; *) compile "$source" ;; esac
done

# These take minutes in an emulator; the random shapes are of all their kinds.
export KITH_TEST_SKIP="test_conformance__grid_of_shapes test_conformance__widest_vectors
    test_conformance__large_batches test_conformance__large_k test_conformance__hard_data
    test_conformance__a_sum_with_the_largest_error_is_kept
    test_conformance__scratch_grows_with_each_argument test_codes_bound__holds_at_the_widest"
tests=(convert ref codes_bound conformance)
for test in "${tests[@]}"; do
    $compiler "${flags[@]}" -static "tests/kernels/test_$test.c" "$out"/*.o -lm -lpthread -o "$out/test_$test"
done
printf '%s\n' "${tests[@]}" | xargs -P "$(nproc)" -I{} sh -c "$emulator -cpu max '$out/test_{}' >'$out/{}.log' 2>&1" ||
    { cat "$out"/*.log; exit 1; }
grep -h '^backend' "$out/conformance.log"
