#!/usr/bin/env bash
# Makes build/python, the virtual environment of the tests that compare with
# Python libraries, from tests/requirements.txt. Those tests are skipped, and
# say so, where it cannot be made.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=build/python/requirements.txt
cmp -s tests/requirements.txt "$stamp" 2>/dev/null && exit 0
mkdir -p build
if python3 -m venv build/python && build/python/bin/pip install -q --disable-pip-version-check -r tests/requirements.txt; then
  cp tests/requirements.txt "$stamp"
else
  echo "No Python environment in build/python: tests that compare with Python libraries will be skipped." >&2
fi
