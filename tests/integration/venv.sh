#!/usr/bin/env bash
# Makes the virtual environment of the tests with real processes in build/integration-venv, unless it is as wanted.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=build/integration-venv
stamp=$venv/requirements.sha256
wanted=$(sha256sum tests/integration/requirements.txt)
[ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || exit 0
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/integration/requirements.txt
echo "$wanted" >"$stamp"
