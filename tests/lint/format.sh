#!/usr/bin/env bash
# clang-format 14 has nothing to change in any C, CUDA or header file. `--fix` changes them.
set -euo pipefail
cd "$(dirname "$0")/../.."
tool=$(command -v clang-format-14 || command -v clang-format)
mapfile -t files < <(git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.inc')
if [ "${1:-}" = --fix ]; then
    "$tool" -i "${files[@]}"
else
    "$tool" --dry-run -Werror "${files[@]}" 2>&1 | grep -E 'error|warning' | head -20 && exit 1
    exit 0
fi
