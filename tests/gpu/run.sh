#!/usr/bin/env bash
# Builds kernels/, workers/model and workers/engine alone and runs on a GPU what
# only a GPU can show: every CUDA kernel against its specification, benchmarks, the
# small tests under compute-sanitizer, and the processor's own tests there. After
# each run, one table and one JSON object are written anew, to results.txt and
# results.json, so that whatever ends the script leaves what was found.
#   tests/gpu/run.sh                 everything
#   tests/gpu/run.sh --only=PART     tests, bench, sanitizers or cpu; the results are
#                                    results.PART.json and .txt then
#   tests/gpu/run.sh --no-build      with what was built before
#   tests/gpu/run.sh --build-only    builds, for machines without a GPU
#   tests/gpu/run.sh --seconds=N     ends within about so many; says what was not run
# Exit status: 0, 1 where something failed, was killed, ran out of its time or had no
# time left, 2 where the options are wrong, 3 where no GPU answers (nothing was run
# then).
#
# Each run has a time limit of its own. OCTOGATE_GPU_RESULTS names the folder of the
# results (the build's otherwise).
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

only='' build_first=1 run_it=1 deadline=0
for option in "$@"; do
  case "$option" in
    -h|--help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    --only=tests|--only=bench|--only=sanitizers|--only=cpu) only=${option#--only=} ;;
    --only=*) echo "--only takes tests, bench, sanitizers or cpu, not '${option#--only=}'" >&2; exit 2 ;;
    --no-build) build_first=0 ;;
    --build-only) run_it=0 ;;
    --seconds=*)
      if ! [[ ${option#--seconds=} =~ ^0*([1-9][0-9]{0,8})$ ]]; then
        echo "--seconds takes a number from 1 to 999999999, not '${option#--seconds=}'" >&2
        exit 2
      fi
      deadline=$((SECONDS + BASH_REMATCH[1])) ;;
    *) echo "unknown option '$option'; see tests/gpu/run.sh --help" >&2; exit 2 ;;
  esac
done

device=$(nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv,noheader 2>/dev/null | head -n 1 || true)
if [ -z "$device" ] && [ $run_it = 1 ]; then
  echo "tests/gpu/run.sh: no GPU answers (nvidia-smi names none); NOTHING WAS RUN" >&2
  exit $no_gpu
fi
[ -z "$device" ] || step "GPU: $device"

OCTOGATE_COMMIT=${OCTOGATE_COMMIT:-$(git rev-parse --short HEAD 2>/dev/null || echo unknown)}
export OCTOGATE_COMMIT OCTOGATE_DEVICE=$device

nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
if [ -n "${OCTOGATE_DEPENDENCIES:-}" ]; then
  dependencies=$(cd "$OCTOGATE_DEPENDENCIES" && pwd)/usr
  export LD_LIBRARY_PATH=$dependencies/lib/x86_64-linux-gnu:$dependencies/lib/aarch64-linux-gnu:${LD_LIBRARY_PATH:-}
fi

if [ $build_first = 1 ]; then
  step "Build ($nvcc)"
  [ -n "$nvcc" ] || { echo "tests/gpu/run.sh: nvcc was found neither on PATH nor in /usr/local/cuda/bin" >&2; exit 1; }
  configure=(-DCMAKE_BUILD_TYPE=Release -DOCTOGATE_SERVERS=OFF -DOCTOGATE_CUDA=ON "-DCMAKE_CUDA_COMPILER=$nvcc")
  if [ -n "${OCTOGATE_DEPENDENCIES:-}" ]; then
    configure+=("-DCMAKE_PREFIX_PATH=$dependencies" "-DICU_ROOT=$dependencies")
  fi
  if command -v ninja >/dev/null; then configure+=(-G Ninja); fi
  cmake -S . -B "$build" "${configure[@]}" >&2
  cmake --build "$build" --parallel "${OCTOGATE_JOBS:-$(nproc)}" >&2
fi
if [ $run_it = 0 ]; then
  echo "built in $build; nothing was run" >&2
  exit 0
fi

out=${OCTOGATE_GPU_RESULTS:-$build}
results_name=results${only:+.$only}
mkdir -p "$out"

failed=0
results=()  # NAME|RESULT|SECONDS
benches=()  # that have figures

write_json() {
  local entry comma='' bench name result seconds
  printf '{"commit": "%s", "device": "%s", "date": "%s", "runs": [' "$OCTOGATE_COMMIT" "$device" \
    "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
  for entry in "${results[@]}"; do
    IFS='|' read -r name result seconds <<<"$entry"
    printf '%s{"name": "%s", "result": "%s", "seconds": %s}' "$comma" "$name" "$result" "$seconds"
    comma=', '
  done
  printf '], "benchmarks": ['
  comma=''
  for bench in "${benches[@]}"; do
    printf '%s' "$comma"
    cat "$out/$bench.figures.json"
    comma=', '
  done
  printf ']}\n'
}

write_table() {
  local entry bench name result seconds
  printf 'GPU tests at %s on %s, %s\n' "$OCTOGATE_COMMIT" "$device" "$(date -u +%F)"
  printf '%-44s %-36s %s\n' RUN RESULT SECONDS
  for entry in "${results[@]}"; do
    IFS='|' read -r name result seconds <<<"$entry"
    printf '%-44s %-36s %s\n' "$name" "$result" "$seconds"
  done
  for bench in "${benches[@]}"; do
    [ ! -s "$out/$bench.figures.txt" ] || { echo; cat "$out/$bench.figures.txt"; }
  done
}

note() {  # NAME RESULT SECONDS
  results+=("$1|$2|$3")
  # Whatever ends the script, there is a whole file.
  write_json >"$out/$results_name.json.part"
  mv "$out/$results_name.json.part" "$out/$results_name.json"
  write_table >"$out/$results_name.txt.part"
  mv "$out/$results_name.txt.part" "$out/$results_name.txt"
}

time_for() {  # SECONDS: as many, or what --seconds leaves
  local left=$((deadline - SECONDS))
  echo $((deadline == 0 || $1 <= left ? $1 : left))
}

run() {  # NAME SECONDS FUNCTION COMMAND…: calls FUNCTION NAME COMMAND…, which runs it
  local name=$1 limit function=$3 begin=$SECONDS rc=0 seconds
  limit=$(time_for "$2"); shift 3
  if [ "$limit" -lt 20 ]; then
    failed=1
    note "$name" "NOT RUN: no time left" 0
    return
  fi
  step "$name"
  "$function" "$name" timeout --kill-after=10 "$limit" "$@" || rc=$?
  seconds=$((SECONDS - begin))
  # What does not end when its time is up is killed; so is what takes too much memory.
  [ $rc != 137 ] || [ $seconds -lt "$limit" ] || rc=124
  case $rc in
    0) note "$name" passed $seconds ;;
    $no_gpu) failed=1; note "$name" "NOT RUN: no GPU answered it" 0 ;;
    124) failed=1; note "$name" "TIMED OUT after $limit s" $seconds ;;
    137) failed=1; note "$name" "KILLED, for its memory perhaps" $seconds ;;
    *) failed=1; note "$name" "FAILED: exit status $rc" $seconds ;;
  esac
}

plain() { shift; "$@" >&2; }

# A test that skips itself has not passed here, nor has one of which nothing was run.
gpu_test() {
  shift
  "$@" | tee "$out/last.log" >&2 || return
  ! grep -q '^\[  SKIPPED \]' "$out/last.log" || return $no_gpu
  grep -q '^\[  PASSED  \] [1-9]' "$out/last.log"
}

# A benchmark that ran out of its time leaves the figures that it had.
bench() {
  local name=$1 rc=0; shift
  "$@" "--json-to=$out/$name.figures.json" >"$out/$name.figures.txt" || rc=$?
  [ ! -s "$out/$name.figures.json" ] || benches+=("$name")
  return $rc
}

part() { [ -z "$only" ] || [ "$only" = "$1" ]; }

mapfile -t gpu_tests < <(cd "$build/bin" && ls gpu_*_test)
# Operations, attention, whole models and whole answers on the device.
mapfile -t device_tests < <(cd "$build/bin" && ls cuda_device_*_test)
if [ ${#gpu_tests[@]} = 0 ] || [ ${#device_tests[@]} = 0 ]; then
  echo "tests/gpu/run.sh: $build/bin lacks gpu_*_test or cuda_device_*_test; NOTHING WAS RUN" >&2
  exit 1
fi

if part tests; then
  for test in "${gpu_tests[@]}" "${device_tests[@]}"; do
    run "$test" 150 gpu_test "$build/bin/$test"
  done
fi

if part bench; then
  rm -f "$out"/*.figures.json "$out"/*.figures.txt
  for name in gpu_bench step_bench; do run "$name" 270 bench "$build/bin/$name"; done
  python=${OCTOGATE_HF_PYTHON:-python3}
  step "torch and transformers"
  probed=0 limit=$(time_for 60)
  # Where no time is left, run says so.
  [ "$limit" -lt 20 ] || timeout --kill-after=10 "$limit" "$python" -c 'import torch, transformers' >&2 || probed=$?
  case $probed in
    0) run hf_decode 240 bench "$python" tests/gpu/hf_decode.py "--beside=$out/step_bench.figures.json" ;;
    124|137) failed=1; note hf_decode "NOT RUN: no time to load torch" 0 ;;
    *) note hf_decode "NOT RUN: no torch and transformers" 0 ;;
  esac
fi

# The small tests: the sanitizers slow kernels down by orders of magnitude.
if part sanitizers; then
  declare -A sanitized=(
    [gpu_matmul_test]=-*SameBits*:*Maximum*
    [cuda_device_backend_test]=*RowWise*:*RmsNormHeads:*Rope:*Edited*:*Draw:*TopK:*Steps*
    [cuda_device_tensor_attention_test]=*
    [cuda_device_page_copy_test]=*
    [cuda_device_tensor_model_test]=*Trees*
    [cuda_device_engine_test]=*
  )
  sanitizer=$(PATH=$PATH:/usr/local/cuda/bin${nvcc:+:$(dirname "$nvcc")} command -v compute-sanitizer || true)
  if [ -n "$sanitizer" ]; then
    for tool in memcheck racecheck synccheck initcheck; do
      for test in gpu_matmul_test cuda_device_{backend,tensor_attention,page_copy,tensor_model,engine}_test; do
        run "$tool $test" 120 gpu_test "$sanitizer" --tool "$tool" --error-exitcode 1 "$build/bin/$test" \
          "--gtest_filter=${sanitized[$test]}"
      done
    done
  else
    failed=1
    note compute-sanitizer "NOT RUN: not installed" 0
  fi
fi

if part cpu; then
  run "tests on the processor" 600 plain ctest --test-dir "$build" --output-on-failure --no-tests=error \
    -j "$(nproc)" -E '^(gpu_|cuda_device_|engine_load_test)'
fi

echo
cat "$out/$results_name.txt"
echo "JSON: $out/$results_name.json"
exit $failed
