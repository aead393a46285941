#!/usr/bin/env bash
# clang-format over every source, clang-tidy over those that differ from the
# commit in LINT_BASE (every source, where it is not set).
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t sources < <(git ls-files '*.cc' '*.h')
clang-format --dry-run --Werror "${sources[@]}"
echo "clang-format: ${#sources[@]} files are well formed"

[ -f build/dev/compile_commands.json ] || cmake --preset dev >/dev/null
cmake --build build/dev --target octogate_proto
if [ -n "${LINT_BASE:-}" ]; then
  mapfile -t changed < <(git diff --name-only --diff-filter=d "$LINT_BASE" -- '*.cc')
else
  mapfile -t changed < <(git ls-files '*.cc')
fi
mapfile -t known < <(python3 -c 'import json,os
for c in json.load(open("build/dev/compile_commands.json")): print(os.path.relpath(c["file"]))' | sort -u)
printf '%s\n' "${changed[@]}" | sort -u | comm -12 - <(printf '%s\n' "${known[@]}") |
  xargs -r -n 1 -P "$(nproc)" clang-tidy --quiet -p build/dev --extra-arg=-Wno-unknown-warning-option 2>/dev/null
echo "clang-tidy: no findings"
