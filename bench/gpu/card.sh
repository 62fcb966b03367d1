#!/usr/bin/env bash
# What waits for a card, in the order of its worth: answers, figures, compute-sanitizer. For a machine that is lent for half an
# hour: it needs what was built and no network (bench/README.md says what to bring, and how long a step takes).
#
#   bench/gpu/card.sh [--build FOLDER] --pack FOLDER            where it was built: puts what it needs there (24 MB)
#   bench/gpu/card.sh [--build FOLDER] [--out FOLDER] [STEP...]  on the machine: --build is that folder
#
# STEP: facts answers small 1m 10m memcheck initcheck synccheck racecheck, or several; all of them, in this order, if none is
# named. One that fails or takes too long does not stop the others. Logs and JSON go to --out (default ./card).
# Exit status: 0 all passed, 1 some failed, 2 wrong usage.
set -uo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
all="facts answers small 1m 10m memcheck initcheck synccheck racecheck"
build="$root/build/release" out=card pack="" steps=()
while [ $# -gt 0 ]; do
    case "$1" in
        --build) build=${2:?--build needs a folder}; shift 2 ;;
        --out) out=${2:?--out needs a folder}; shift 2 ;;
        --pack) pack=${2:?--pack needs a folder}; shift 2 ;;
        -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        *)
            case " $all " in *" $1 "*) steps+=("$1"); shift ;; *)
                echo "card.sh: there is no step '$1'; there are: $all" >&2; exit 2 ;;
            esac ;;
    esac
done

# Of the SIFT descriptors that rows are modelled on (gpu_bench.py), every 50th: 516 bytes each.
descriptors_pack() { # FROM TO
    python3 - "$1" "$2" <<'END'
import pathlib, sys
data = pathlib.Path(sys.argv[1]).read_bytes()
pathlib.Path(sys.argv[2]).write_bytes(b"".join(data[at:at + 516] for at in range(0, len(data), 50 * 516)))
END
}
if [ -n "$pack" ]; then
    set -e
    mkdir -p "$pack/bin"
    cp "$build"/bin/{libkith_cuda.so,libbench_gpu.so,libbench_gpu_lt.so,test_cuda_search} "$pack/bin"
    cp -L "$(ldd "$build/bin/test_cuda_search" | awk '/libcmocka/ { print $3 }')" "$pack/bin"
    sift="${XDG_CACHE_HOME:-$HOME/.cache}/kith-datasets/sift-1m/base.fvecs"
    [ -e "$sift" ] || { echo "card.sh: without $sift (bench/datasets/make_sift.py): rows will be made up"; exit 0; }
    mkdir -p "$pack/kith-datasets/sift-1m"
    descriptors_pack "$sift" "$pack/kith-datasets/sift-1m/base.fvecs"
    exit 0
fi
[ ${#steps[@]} -gt 0 ] || read -ra steps <<<"$all"
mkdir -p "$out" || exit 2

tests="$build/bin/test_cuda_search"
export KITH_TEST_CUDA=real KITH_TEST_CUDA_PLUGIN="$build/bin/libkith_cuda.so"
export PATH="$PATH:/usr/local/cuda/bin"
export LD_LIBRARY_PATH="$build/bin${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" # of libraries that were brought

if [ -d "$build/kith-datasets" ]; then export XDG_CACHE_HOME="$build"; fi

bench() { # NAME SECONDS OPTIONS...
    local name=$1 seconds=$2; shift 2
    timeout -k 5 "$seconds" python3 -u "$root/bench/gpu/gpu_bench.py" --build "$build" --json "$out/$name.json" "$@"
}
step() {
    case "$1" in
        facts) nvidia-smi && python3 -c 'import numpy, torch; print("numpy", numpy.__version__, "torch", torch.__version__)' &&
            ldd "$tests" "$build"/bin/libbench_gpu*.so && ! ldd "$tests" | grep -q 'not found' ;;
        answers) timeout -k 5 400 "$tests" ;;
        memcheck | racecheck | initcheck | synccheck)
            KITH_TEST_SCALE=0.05 timeout -k 5 400 compute-sanitizer --tool "$1" --error-exitcode 9 "$tests" ;;
        small) bench small 200 --rows 100000 --batches 1,32,1024 --ks 10 --seconds 0.2 ;;
        1m) bench 1m 400 --rows 1000000 ;;
        10m) bench 10m 570 --rows 10000000 --seconds 1 ;;
    esac
}

failed=0
for name in "${steps[@]}"; do
    began=$SECONDS
    printf '\n== %s\n' "$name"
    step "$name" 2>&1 | tee "$out/$name.log"
    status=${PIPESTATUS[0]}
    [ "$status" -eq 0 ] || failed=1
    printf '%s: status %d after %d s\n' "$name" "$status" $((SECONDS - began)) | tee -a "$out/summary"
done
printf '\n'
cat "$out/summary"
exit $failed
