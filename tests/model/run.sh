#!/usr/bin/env bash
# The model of the replication protocol (replica.pml): spin looks at every state of the right one and must find each variant that
# is known to be wrong. A line for each. Seconds, and 100 MB; with KITH_TEST_SCALE above 1 also with 4 and 5 epochs: minutes, and 600 MB.
#
#   tests/model/run.sh
#
# Exit status: 0 the right one is verified and each wrong one found, 1 not so, 77 spin is not installed.
set -euo pipefail
cd "$(dirname "$0")"
command -v spin >/dev/null || { echo "tests/model: skipped, spin is missing"; exit 77; }
compiler=${CC:-cc}
model=$PWD/replica.pml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

search() { # SWITCH...: what spin says goes to said.txt
    rm -f pan* replica.pml.trail
    spin -a "$@" "$model" >said.txt 2>&1 || return 1
    # One process takes all steps: there is no order of processes to reduce.
    "$compiler" -O2 -DSAFETY -DNOREDUCE -DMEMLIM=2000 -w -o pan pan.c || return 1
    ./pan -m20000 -w22 >said.txt 2>&1 || true
}
is_verified() {
    grep -q 'errors: 0$' said.txt && ! grep -qiE 'not completed|too small|out of memory|truncated' said.txt
}
states() { awk '/states, stored/ { print $1 }' said.txt; }

failed=0
say_failed() {
    cat said.txt
    echo "tests/model: $1"
    failed=1
}
verify() { # EPOCHS [BOUND...]
    if search "-DEPOCHS=$1" "${@:2}" && is_verified; then
        echo "right, $1 epochs: verified, $(states) states"
    else
        say_failed "the protocol is wrong, or too large to look at"
    fi
}
find_wrong() { # SWITCH [BOUND...]
    if search "-D$1" "${@:2}" && grep -q 'assertion violated' said.txt; then
        echo "$1: found after $(states) states"
    else
        say_failed "$1 was not found"
    fi
}

five_epochs=(-DEPOCHS=5 -DSLOTS=2 -DWRITES=1)
verify 3
if [ "${KITH_TEST_SCALE:-1}" -gt 1 ]; then
    verify 4
    verify 5 "${five_epochs[@]:1}"
fi
for wrong in ACK_BEFORE_ISR PROMOTE_LAGGARD NO_EPOCH_CHECK NEW_ISR_ALONE LEAD_IN_FOUND_EPOCH FORGET_OWN_EPOCH; do
    find_wrong "$wrong"
done
find_wrong COMMIT_BELOW_START "${five_epochs[@]}"
exit "$failed"
