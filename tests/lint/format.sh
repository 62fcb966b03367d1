#!/usr/bin/env bash
# clang-format 14 has nothing to change in any C, CUDA or header file. `--fix` changes them.
set -euo pipefail
cd "$(dirname "$0")/../.."
tool=$(command -v clang-format-14 || command -v clang-format)
mapfile -t files < <(git ls-files '*.c' '*.h' '*.cu' '*.cuh')
if [ "${1:-}" = --fix ]; then
    "$tool" -i "${files[@]}"
elif ! found=$("$tool" --dry-run -Werror "${files[@]}" 2>&1); then
    grep 'error:' <<<"$found" | head -n 20
    echo "tests/lint/format.sh --fix mends these"
    exit 1
fi
