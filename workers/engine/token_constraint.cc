#include "workers/engine/token_constraint.h"

#include <algorithm>

#include "workers/engine/candidates.h"

namespace octogate::workers {

absl::Status ApplyMask(std::span<const uint64_t> words, std::span<float> logits) {
  bool any = false;
  for (size_t begin = 0; begin < logits.size(); begin += 64) {
    const size_t count = std::min<size_t>(64, logits.size() - begin);
    const uint64_t word = begin / 64 < words.size() ? words[begin / 64] : 0;
    const std::span<float> part = logits.subspan(begin, count);
    if (word == 0) {
      std::fill(part.begin(), part.end(), kForbidden);
      continue;
    }
    for (size_t i = 0; i < count; ++i) {
      const bool allowed = (word >> i & 1) != 0;
      if (!allowed) part[i] = kForbidden;
      any |= part[i] > kForbidden;
    }
  }
  if (any) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "the constraint of the answer leaves no token to choose from: no token of the vocabulary "
      "spells what has to come next, or the answer has ended without one that stops it");
}

}  // namespace octogate::workers
