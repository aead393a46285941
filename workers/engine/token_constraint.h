// What an answer may be limited to, token by token, such as the texts of a grammar.
//
// The engine asks for a mask before it samples each token, and tells which one it took. Of a draft
// tree it verifies the nodes that forks accept, so that no row is for what may not be there; on the
// path that it then chooses, every token is masked as without drafts.
#ifndef OCTOGATE_WORKERS_ENGINE_TOKEN_CONSTRAINT_H_
#define OCTOGATE_WORKERS_ENGINE_TOKEN_CONSTRAINT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

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

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_TOKEN_CONSTRAINT_H_
