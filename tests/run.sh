#!/usr/bin/env bash
# Installs what is missing, builds, and runs the tests.
#   tests/run.sh                     every test
#   tests/run.sh -R router           tests whose name matches (any ctest option)
#   tests/run.sh --sanitize          the same under ASan+UBSan, then under TSan
#   tests/run.sh --sanitize=tsan     … under one preset: asan, asan-engine, tsan
#   tests/run.sh --fuzz SECONDS      every fuzz target for so long
#   tests/run.sh --lint [FOLDER…]    clang-format; clang-tidy over these folders, or all
# Data for evaluation is read from the folder that OCTOGATE_TEST_DATA names;
# tests that need it are skipped, and say so, where it is not set.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

prepare() {
  step "Packages"
  deploy/install-packages.sh deploy/packages.txt tests/packages.txt
  tests/python-environment.sh
}

build() {  # PRESET [TARGET…]
  local preset=$1; shift
  step "Build ($preset)"
  cmake --preset "$preset" >/dev/null
  cmake --build "build/$preset" ${*:+--target "$@"}
}

run_tests() {  # PRESET [CTEST OPTION…]
  local preset=$1; shift
  step "Tests ($preset)"
  ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j2 "$@"
}

export CCACHE_NOHASHDIR=1  # presets that compile something alike do so once
export OCTOGATE_PYTHON=${OCTOGATE_PYTHON:-$PWD/build/python/bin/python}
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-second_deadlock_stack=1:suppressions=$PWD/tests/tsan.supp}

case "${1:-}" in
  -h|--help) sed -n '2,11p' "$0" | sed 's/^# \{0,1\}//' ;;
  --sanitize|--sanitize=*)
    presets=${1#--sanitize}; presets=${presets#=}; shift
    prepare
    for preset in ${presets:-asan tsan}; do
      build "$preset"
      run_tests "$preset" "$@"
    done ;;
  --fuzz)
    seconds=${2:?"usage: tests/run.sh --fuzz SECONDS"}
    prepare
    build fuzz fuzz_targets
    failed=0
    for target in build/fuzz/bin/*_fuzz; do
      step "Fuzz $(basename "$target") for $seconds s"
      corpus=build/fuzz/corpus/$(basename "$target"); mkdir -p "$corpus"
      seeds=tests/fuzz/seeds/$(basename "$target" _fuzz)
      "$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=0 \
        -verbosity=0 -artifact_prefix="build/fuzz/" "$corpus" $([ -d "$seeds" ] && echo "$seeds") || failed=1
    done
    exit $failed ;;
  --lint) shift; prepare; tests/lint.sh "$@" ;;
  *)
    prepare
    build dev
    run_tests dev "$@" ;;
esac
