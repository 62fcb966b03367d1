#!/usr/bin/env bash
# Installs what is missing, builds, runs the tests, and ends with one line: N passed, N failed.
#
#   tests/run.sh                      everything CI runs
#   tests/run.sh unit kernels         only these suites: lint unit kernels fuzz sim integration cluster sanitizers
#   tests/run.sh --scale 10 sim       the random parts ten times as long
#   tests/run.sh --seed 7             replays a seed (each random test prints its own)
#   tests/run.sh --preset release     against another preset (default dev)
#
# Exit status: 0 all passed, 1 some failed, 2 wrong usage.
set -uo pipefail
cd "$(dirname "$0")/.."

all="lint unit kernels fuzz sim integration cluster sanitizers"
suites=() preset=dev
while [ $# -gt 0 ]; do
    case "$1" in
        --scale) export KITH_TEST_SCALE="${2:?--scale needs a number}"; shift 2 ;;
        --seed) export KITH_TEST_SEED="${2:?--seed needs a number}"; shift 2 ;;
        --preset) preset="${2:?--preset needs a name}"; shift 2 ;;
        -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *)
            case " $all " in *" $1 "*) suites+=("$1"); shift ;; *)
                echo "tests/run.sh: there is no suite '$1'; there are: $all" >&2; exit 2 ;;
            esac ;;
    esac
done
[ ${#suites[@]} -eq 0 ] && read -ra suites <<<"$all"

passed=0 failed=0 failures=() began=$SECONDS
jobs=$(nproc)

say() { printf '\n== %s (%ds)\n' "$*" $((SECONDS - began)); }
count() { # NAME PASSED FAILED
    passed=$((passed + $2)) failed=$((failed + $3))
    [ "$3" -eq 0 ] || failures+=("$1")
    say "$1: $2 passed, $3 failed"
}
check() { # NAME COMMAND...: one test
    local name=$1; shift
    if "$@"; then count "$name" 1 0; else count "$name" 0 1; fi
}
build() { # PRESET [TARGET...]
    local preset=$1; shift
    say "build $preset"
    cmake --preset "$preset" >"/tmp/kith-configure.$$" 2>&1 || { cat "/tmp/kith-configure.$$"; return 1; }
    rm -f "/tmp/kith-configure.$$"
    cmake --build "build/$preset" -j "$jobs" ${1:+--target "$@"} | grep -vE '^\[[0-9]+/[0-9]+\]' || true
    return "${PIPESTATUS[0]}"
}
# ctest by label; every cmocka test counts as one, any other program as one.
run_ctest() { # NAME PRESET LABEL-REGEX
    local xml="build/$2/junit-$1.xml"
    rm -f "$xml"
    ctest --test-dir "build/$2" -L "$3" -j "$jobs" --output-on-failure --output-junit "junit-$1.xml" --timeout 900 \
        --test-output-size-passed 4000000 --test-output-size-failed 4000000 |
        grep -avE '^(Test project|Label Time|Total Test time|$)|Start +[0-9]+:' || true
    local numbers
    numbers=$(python3 tests/junit_count.py "$xml") || numbers="0 1"
    # shellcheck disable=SC2086
    count "$1" $numbers
}

suite_lint() {
    check "lint: includes" python3 tests/lint/lint.py
    check "lint: format" tests/lint/format.sh
    check "lint: cppcheck" tests/lint/cppcheck.sh
    # One at a time: of several, bash -n reads the first and takes the rest for its arguments.
    check "lint: scripts" bash -c 'for script; do bash -n "$script" || exit 1; done' _ \
        quickstart.sh install-deps.sh tests/run.sh tests/cluster/run.sh tests/cluster/namespaces.sh tests/integration/run.sh tests/integration/venv.sh tests/kernels/arm64/run.sh \
        tests/model/run.sh
}
suite_unit() { run_ctest unit "$preset" '^unit$'; }
suite_kernels() {
    run_ctest kernels "$preset" '^kernels$'
    local status=0
    tests/kernels/arm64/run.sh "build/$preset/arm64" || status=$?
    [ "$status" -eq 77 ] || check "kernels: arm64" test "$status" -eq 0
}
suite_fuzz() { run_ctest fuzz "$preset" '^fuzz$'; }
suite_sim() {
    run_ctest sim "$preset" '^sim$'
    local status=0
    tests/model/run.sh || status=$?
    [ "$status" -eq 77 ] || check "sim: model" test "$status" -eq 0
}
suite_integration() {
    local numbers
    tests/integration/run.sh --bin "$PWD/build/$preset/bin"
    numbers=$(python3 tests/junit_count.py "build/$preset/junit-integration.xml") || numbers="0 1"
    # shellcheck disable=SC2086
    count integration $numbers
}
suite_cluster() {
    local numbers status=0
    tests/cluster/run.sh --bin "$PWD/build/$preset/bin" || status=$?
    [ "$status" -ne 77 ] || return
    numbers=$(python3 tests/junit_count.py "build/$preset/junit-cluster.xml") || numbers="0 1"
    # shellcheck disable=SC2086
    count cluster $numbers
}
suite_sanitizers() {
    build asan || { count "build asan" 0 1; return; }
    run_ctest asan asan '^(unit|fuzz)$'
    build tsan || { count "build tsan" 0 1; return; }
    TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1" UCX_MEM_EVENTS=n run_ctest tsan tsan '^unit$'
}

./install-deps.sh --tests || exit 1
for suite in "${suites[@]}"; do
    case "$suite" in lint | sanitizers) ;; *)
        build "$preset" || { echo "0 passed, 1 failed"; exit 1; }
        break ;;
    esac
done
for suite in "${suites[@]}"; do
    say "$suite"
    "suite_$suite"
done

[ ${#failures[@]} -eq 0 ] || printf '\nfailed: %s\n' "${failures[*]}"
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
