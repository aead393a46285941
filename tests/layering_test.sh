#!/usr/bin/env bash
# Includes go down the layers, never up: the table of README.md, "Where things are".
set -euo pipefail
cd "$(dirname "$0")/.."
failed=0

forbid() {  # REASON PATTERN FOLDER…
  local reason=$1 pattern=$2 found; shift 2
  found=$(grep -rnE --include='*.h' --include='*.cc' --include='*.cu' --include='*.cuh' \
    "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]($pattern)" "$@" 2>/dev/null || true)
  [ -z "$found" ] || { printf '%s:\n%s\n' "$reason" "$found"; failed=1; }
}
servers='grpc|google/protobuf|octogate/v1/|hiredis|faiss'

forbid "kernels/ has the standard library only" "absl|nlohmann|common/|workers/|retrieval/|router/|gateway/|$servers" kernels
forbid "workers/model, workers/engine and workers/grammar need no server library" "$servers|spdlog|yaml-cpp|workers/server/" workers/model workers/engine workers/grammar
forbid "workers/ includes no higher layer" "router/|gateway/" workers
forbid "retrieval/ includes common/ only" "kernels/|workers/|router/|gateway/" retrieval
forbid "router/ includes retrieval/, common/ and proto/ only" "kernels/|workers/|gateway/" router
forbid "common/ includes no other layer" "kernels/|workers/|retrieval/|router/|gateway/" common
mapfile -t without_servers < <(find common -type f ! -name 'grpc_*' ! -path 'common/redis/*')
forbid "in common/, only grpc_status knows gRPC and redis/ Redis" "$servers" "${without_servers[@]}"
forbid "gateway/ goes through workers/, not to kernels/" "kernels/" gateway
exit $failed
