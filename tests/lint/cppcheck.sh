#!/usr/bin/env bash
# cppcheck's warnings and portability checks over the product's C files; every suppression has its reason here.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build/cppcheck
# uninitvar of `_out` parameters: cppcheck does not follow that outputs are written on success.
exec cppcheck --quiet --error-exitcode=1 --std=c11 --language=c -j "$(nproc)" --cppcheck-build-dir=build/cppcheck \
    --enable=warning,portability --inline-suppr --max-configs=1 -I . \
    --suppress=missingIncludeSystem --suppress=uninitvar --suppress=legacyUninitvar --suppress=unknownMacro --suppress=arithOperationsOnVoidPointer \
    host kernels transport -i kernels/cuda
