#!/usr/bin/env bash
# Runs python_client_test.py with the Python that OCTOGATE_PYTHON names.
if ! "${OCTOGATE_PYTHON:-/nonexistent}" -c "import grpc_tools, grpc_health, grpc_reflection" 2>/dev/null; then
  echo "SKIPPED: OCTOGATE_PYTHON (\"${OCTOGATE_PYTHON:-}\") is no Python with the packages of tests/requirements.txt"
  exit 77
fi
exec "$OCTOGATE_PYTHON" "$(dirname "$0")/python_client_test.py" "$@"
