#include "workers/speculation/drafter.h"

#include <chrono>

namespace octogate::workers {

void Drafter::ProposeAll(std::span<const DraftCall> calls) {
  auto begin = std::chrono::steady_clock::now();
  for (const DraftCall& call : calls) {
    call.sequence->Propose(call.max_nodes, call.max_depth, *call.tree);
    const auto end = std::chrono::steady_clock::now();
    *call.time += absl::FromChrono(end - begin);
    begin = end;
  }
}

}  // namespace octogate::workers
