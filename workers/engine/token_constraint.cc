#include "workers/engine/token_constraint.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
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

absl::Status FillDraftTreeMasks(const TokenConstraint& constraint, std::span<const int32_t> parents,
                                std::span<const int32_t> tokens, DraftTreeMasks& masks) {
  if (parents.size() != tokens.size()) {
    return absl::InvalidArgumentError(absl::StrCat("a draft tree with ", tokens.size(),
                                                   " tokens but ", parents.size(), " parents"));
  }
  const size_t size = constraint.mask_words();
  masks.words.assign((tokens.size() + 1) * size, 0);
  masks.allowed.assign(tokens.size(), false);
  const auto words = [&](size_t place) {
    return std::span(masks.words).subspan(place * size, size);
  };
  if (absl::Status status = constraint.FillMask(words(0)); !status.ok()) return status;
  std::vector<std::unique_ptr<TokenConstraint>> forks(tokens.size());
  for (size_t node = 0; node < tokens.size(); ++node) {
    const int32_t parent = parents[node];
    if (parent < -1 || parent >= static_cast<int32_t>(node) || tokens[node] < 0) {
      return absl::InvalidArgumentError(absl::StrCat("node ", node, " of a draft tree has parent ",
                                                     parent, " and token ", tokens[node]));
    }
    const auto above = static_cast<size_t>(parent + 1);
    // The mask of a parent that may not stand there is empty.
    if (!IsAllowed(words(above), tokens[node])) continue;
    forks[node] = parent < 0 ? constraint.Fork() : forks[above - 1]->Fork();
    if (forks[node]->Accept(tokens[node]).ok() && forks[node]->FillMask(words(node + 1)).ok()) {
      masks.allowed[node] = true;
    } else {
      std::fill(words(node + 1).begin(), words(node + 1).end(), 0);
    }
  }
  return absl::OkStatus();
}

}  // namespace octogate::workers
