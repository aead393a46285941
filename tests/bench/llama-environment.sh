#!/usr/bin/env bash
# Makes build/llama, the virtual environment with llama.cpp that the engine's benchmarks are
# measured beside. Compiles llama.cpp for this machine: about ten minutes on two cores, once.
set -euo pipefail
cd "$(dirname "$0")/../.."
requirements=tests/bench/llama-requirements.txt
cmp -s "$requirements" build/llama/requirements.txt 2>/dev/null && exit 0
echo "Building llama.cpp in build/llama (once, about ten minutes) …" >&2
python3 -m venv build/llama
CMAKE_ARGS="-DGGML_NATIVE=ON -DGGML_CCACHE=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF" \
  build/llama/bin/pip install -q --disable-pip-version-check --no-cache-dir -r "$requirements"
cp "$requirements" build/llama/requirements.txt
