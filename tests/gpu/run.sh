#!/usr/bin/env bash
# Builds kernels/, workers/model and workers/engine alone and runs on a GPU what
# only a GPU can show: every CUDA kernel against its specification, the same under
# compute-sanitizer, and benchmarks. Prints one table, and one JSON object to
# build/gpu/results.json.
#   tests/gpu/run.sh                 everything
#   tests/gpu/run.sh --no-bench      tests and sanitizers
#   tests/gpu/run.sh --build-only    builds, for machines without a GPU
# Exit status: 0, 1 where something failed, 3 where no GPU answers (nothing was
# run then).
#
# Needs a C++20 compiler, CMake, Make or Ninja, nvcc, and no network. Abseil,
# nlohmann-json, ICU and GoogleTest come from the system, or from the folder that
# OCTOGATE_DEPENDENCIES names, with Debian's packages unpacked in it:
#   apt-get download libabsl-dev libabsl20220623 nlohmann-json3-dev libicu-dev \
#     libicu72 googletest libgtest-dev libgmock-dev
#   for package in *.deb; do dpkg -x "$package" dependencies; done
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${OCTOGATE_GPU_BUILD:-build/gpu}
readonly no_gpu=3

step() { printf '\n== %s\n' "$*" >&2; }

mode=all
case "${1:-}" in
  -h|--help) sed -n '2,17p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
  --build-only|--no-bench) mode=${1#--} ;;
  "") ;;
  *) echo "unknown option '$1'; see tests/gpu/run.sh --help" >&2; exit 2 ;;
esac

device=$(nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv,noheader 2>/dev/null | head -n 1 || true)
if [ -z "$device" ] && [ "$mode" != build-only ]; then
  echo "tests/gpu/run.sh: no GPU answers (nvidia-smi names none); NOTHING WAS RUN" >&2
  exit $no_gpu
fi

configure=(-DCMAKE_BUILD_TYPE=Release -DOCTOGATE_SERVERS=OFF -DOCTOGATE_CUDA=ON)
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
[ -n "$nvcc" ] || { echo "tests/gpu/run.sh: nvcc was found neither on PATH nor in /usr/local/cuda/bin" >&2; exit 1; }
configure+=("-DCMAKE_CUDA_COMPILER=$nvcc")
if [ -n "${OCTOGATE_DEPENDENCIES:-}" ]; then
  dependencies=$(cd "$OCTOGATE_DEPENDENCIES" && pwd)/usr
  configure+=("-DCMAKE_PREFIX_PATH=$dependencies" "-DICU_ROOT=$dependencies")
  export LD_LIBRARY_PATH=$dependencies/lib/x86_64-linux-gnu:$dependencies/lib/aarch64-linux-gnu:${LD_LIBRARY_PATH:-}
fi
if command -v ninja >/dev/null; then configure+=(-G Ninja); fi

OCTOGATE_COMMIT=${OCTOGATE_COMMIT:-$(git rev-parse --short HEAD 2>/dev/null || echo unknown)}
export OCTOGATE_COMMIT OCTOGATE_DEVICE=$device

step "Build ($nvcc)"
cmake -S . -B "$build" "${configure[@]}" >&2
cmake --build "$build" --parallel "${OCTOGATE_JOBS:-$(nproc)}" >&2
if [ "$mode" = build-only ]; then
  echo "built in $build; nothing was run" >&2
  exit 0
fi

failed=0
results=()  # NAME|RESULT|SECONDS
run() {  # NAME COMMAND…
  local name=$1 begin=$SECONDS result=passed; shift
  step "$name"
  "$@" >&2 || { result=FAILED; failed=1; }
  results+=("$name|$result|$((SECONDS - begin))")
}

# A test that skips itself has not passed here.
gpu_test() { "$@" | tee "$build/last.log" && ! grep -q '^\[  SKIPPED \]' "$build/last.log"; }

mapfile -t gpu_tests < <(cd "$build/bin" && ls gpu_*_test)
# Operations, attention, whole models and whole answers on the device.
mapfile -t device_tests < <(cd "$build/bin" && ls cuda_device_*_test)
for test in "${gpu_tests[@]}" "${device_tests[@]}"; do
  run "$test" gpu_test "$build/bin/$test"
done

# The small tests: the sanitizers slow kernels down by orders of magnitude.
if sanitizer=$(command -v compute-sanitizer || ls "$(dirname "$nvcc")/compute-sanitizer" 2>/dev/null); then
  for tool in memcheck racecheck synccheck initcheck; do
    for test in "${gpu_tests[@]}"; do
      run "$tool $test" "$sanitizer" --tool "$tool" --error-exitcode 1 "$build/bin/$test" \
        "--gtest_filter=-*SameBits*:*Maximum*"
    done
    for test in tensor_attention page_copy engine; do
      run "$tool cuda_device_${test}_test" "$sanitizer" --tool "$tool" --error-exitcode 1 \
        "$build/bin/cuda_device_${test}_test"
    done
  done
else
  results+=("compute-sanitizer|NOT RUN: not installed|0")
fi

run "tests on the processor" ctest --test-dir "$build" --output-on-failure --no-tests=error -j "$(nproc)" \
  -R '^(kernels_|cuda_|golden_|transformer_|engine_)' -E 'engine_load|cuda_device'

figures=()  # JSON objects
benches=(gpu_bench step_bench)
rm -f "$build"/*.figures.json "$build"/*.figures.txt
for bench in "${benches[@]}"; do
  if [ "$mode" != all ]; then
    results+=("$bench|NOT RUN: --no-bench|0")
    continue
  fi
  step "$bench"
  begin=$SECONDS result=passed
  if "$build/bin/$bench" "--json-to=$build/$bench.figures.json" >"$build/$bench.figures.txt"; then
    figures+=("$(cat "$build/$bench.figures.json")")
  else
    result=FAILED failed=1
    rm -f "$build/$bench.figures.txt"
  fi
  results+=("$bench|$result|$((SECONDS - begin))")
done

{
  printf '{"commit": "%s", "device": "%s", "date": "%s", "runs": [' "$OCTOGATE_COMMIT" "$device" \
    "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
  comma=
  for entry in "${results[@]}"; do
    IFS='|' read -r name result seconds <<<"$entry"
    printf '%s{"name": "%s", "result": "%s", "seconds": %s}' "$comma" "$name" "$result" "$seconds"
    comma=', '
  done
  printf '], "benchmarks": [%s]}\n' "$(IFS=,; echo "${figures[*]}")"
} >"$build/results.json"

printf '\nGPU tests at %s on %s, %s\n' "$OCTOGATE_COMMIT" "$device" "$(date -u +%F)"
printf '%-40s %-28s %s\n' RUN RESULT SECONDS
for entry in "${results[@]}"; do
  IFS='|' read -r name result seconds <<<"$entry"
  printf '%-40s %-28s %s\n' "$name" "$result" "$seconds"
done
for bench in "${benches[@]}"; do
  [ ! -f "$build/$bench.figures.txt" ] || { echo; cat "$build/$bench.figures.txt"; }
done
echo "JSON: $build/results.json"
exit $failed
