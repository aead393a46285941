#!/usr/bin/env bash
# clang-format over every source; clang-tidy over the sources in the folders
# given, or over all.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t sources < <(git ls-files '*.cc' '*.h')
clang-format --dry-run --Werror "${sources[@]}"
echo "clang-format: ${#sources[@]} files are well formed"

[ -f build/dev/compile_commands.json ] || cmake --preset dev >/dev/null
# Generated headers must be there.
cmake --build build/dev --target octogate_proto_services >/dev/null
mapfile -t compiled < <(python3 -c 'import json, os
for command in json.load(open("build/dev/compile_commands.json")):
    print(os.path.relpath(command["file"]))' | sort -u)
git ls-files "${@:-.}" | grep '\.cc$' | sort -u | comm -12 - <(printf '%s\n' "${compiled[@]}") |
  xargs -r -n 1 -P "$(nproc)" clang-tidy --quiet -p build/dev --extra-arg=-Wno-unknown-warning-option
echo "clang-tidy: no findings"
