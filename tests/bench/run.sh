#!/usr/bin/env bash
# Builds what a benchmark needs and runs it.
#   tests/bench/run.sh decode            a table
#   tests/bench/run.sh decode --json     one JSON object on stdout
#   tests/bench/run.sh --list            the names
# Where OCTOGATE_LLAMA_PYTHON is set but empty, llama.cpp is neither built nor measured.
set -euo pipefail
cd "$(dirname "$0")/../.."

names() { ls tests/bench/*_bench.cc | sed 's|.*/\(.*\)_bench.cc|\1|'; }
usage() { sed -n '2,6p' "$0" | sed 's/^# \{0,1\}//'; echo "Names: $(names | xargs)"; }

case "${1:-}" in
  --list) names; exit 0 ;;
  ""|-h|--help) usage; exit 0 ;;
esac
name=${1//-/_}; shift
[ -f "tests/bench/${name}_bench.cc" ] || { echo "no benchmark '$name'; there are: $(names | xargs)" >&2; exit 2; }

OCTOGATE_COMMIT=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
git diff --quiet HEAD 2>/dev/null || OCTOGATE_COMMIT+=-modified
export OCTOGATE_COMMIT

# Standard output belongs to the benchmark.
{
  deploy/install-packages.sh deploy/packages.txt tests/packages.txt
  case "$name" in
    decode|prefill)
      if [ -z "${OCTOGATE_LLAMA_PYTHON+set}" ]; then
        if tests/bench/llama-environment.sh; then
          export OCTOGATE_LLAMA_PYTHON=$PWD/build/llama/bin/python
        else
          echo "No llama.cpp in build/llama: nothing is measured beside it." >&2
        fi
      fi ;;
    retrieval_replay|shared_drafts|speculation|speculation_live)
      model='' requests=''
      for argument in "$@"; do
        case "$argument" in
          --model=*) model=${argument#--model=} ;;
          --requests=*) requests=${argument#--requests=} ;;
        esac
      done
      if [ -z "$requests" ]; then
        [ -n "${OCTOGATE_PYTHON:-}" ] || tests/python-environment.sh
        python=${OCTOGATE_PYTHON:-build/python/bin/python}
        if [ -n "$model" ]; then
          "$python" tests/bench/speculation_prompts.py "$model" \
            "${OCTOGATE_TEST_DATA:?names no folder with text}" build/speculation_prompts.jsonl
          set -- --requests=build/speculation_prompts.jsonl "$@"
        else
          "$python" tests/bench/speculation_requests.py \
            "${OCTOGATE_TEST_DATA:?names no folder with specdec}" build/speculation_requests.jsonl
          set -- --requests=build/speculation_requests.jsonl "$@"
        fi
      fi ;;
  esac
  cmake --preset dev >/dev/null
  cmake --build build/dev --target "${name}_bench"
} >&2
exec "build/dev/bin/${name}_bench" "$@"
