// What an answer may be limited to, token by token, such as the texts of a grammar.
//
// The engine asks for a mask before it samples each token, and tells which one it took. A draft
// tree is limited node by node in the same way.
#ifndef OCTOGATE_WORKERS_ENGINE_TOKEN_CONSTRAINT_H_
#define OCTOGATE_WORKERS_ENGINE_TOKEN_CONSTRAINT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"

namespace octogate::workers {

// One answer, as far as it has come. Used by one thread at a time; different forks of one
// constraint may be used by different threads at once.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  // Another one of the same answer, which goes its own way from here. Cheap.
  virtual std::unique_ptr<TokenConstraint> Fork() const = 0;
  // Words of a mask. Tokens that it has no bit for are not allowed.
  virtual size_t mask_words() const = 0;
  // Writes which tokens may come next: token i is bit i % 64 of word i / 64. Tokens that end the
  // answer are among them exactly where it may end. `words` has mask_words() of them.
  virtual absl::Status FillMask(std::span<uint64_t> words) const = 0;
  // The answer goes on with a token; INVALID_ARGUMENT where the mask does not hold it.
  virtual absl::Status Accept(int32_t id) = 0;
};

inline bool IsAllowed(std::span<const uint64_t> words, int32_t id) {
  const auto word = static_cast<size_t>(id) / 64;
  return word < words.size() && (words[word] >> (id % 64) & 1) != 0;
}

// Forbids every logit that the mask does not hold. FAILED_PRECONDITION where none is left.
absl::Status ApplyMask(std::span<const uint64_t> words, std::span<float> logits);

// What may come after each node of a draft tree.
struct DraftTreeMasks {
  std::vector<uint64_t> words;  // [1 + nodes][mask_words]; the first are for before the tree
  // By node: whether it is worth being verified. Those that may not stand where they are, and those
  // below them, are not; nor are those for which the constraint failed, such as at a limit: what a
  // draft needs that is never sampled is no error of the answer. The masks of others are empty. A
  // verifier goes on with allowed nodes only; where it samples another one's token, the answer has
  // that token, and the pass ends there.
  std::vector<bool> allowed;
};

// Node i holds tokens[i] and follows node parents[i], which is before it, or, where that is -1, the
// answer so far. INVALID_ARGUMENT for a malformed tree; fails as FillMask does where the mask
// before the tree cannot be had.
absl::Status FillDraftTreeMasks(const TokenConstraint& constraint, std::span<const int32_t> parents,
                                std::span<const int32_t> tokens, DraftTreeMasks& masks);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_TOKEN_CONSTRAINT_H_
