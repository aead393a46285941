// Vectors of contexts: the last tokens of a sequence, hashed and projected at random.
#ifndef OCTOGATE_RETRIEVAL_DRAFTS_CONTEXT_EMBEDDING_H_
#define OCTOGATE_RETRIEVAL_DRAFTS_CONTEXT_EMBEDDING_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace octogate::retrieval {

inline constexpr size_t kContextDimension = 64;

// The i-th token from the end, i from 0, adds decay^i times a vector of signs that is its own at
// that distance; the sum has the length 1. So the product of two contexts is about the share of
// places, by their weights, at which they have the same token; of unlike ones it is within about
// 1/8 of 0. Signs are the bits of a hash of seed, token and distance. Equal on all machines.
struct ContextEmbedding {
  uint64_t seed = 0x0C706A7E;
  int32_t window = 8;  // tokens, in [1, kMaxWindow]
  float decay = 0.8F;  // in (0, 1]

  static constexpr int32_t kMaxWindow = 64;

  bool IsValid() const { return window >= 1 && window <= kMaxWindow && decay > 0 && decay <= 1; }
  // Of the last `window` of `tokens`; zeros where there are none.
  void Embed(std::span<const int32_t> tokens, std::span<float, kContextDimension> vector) const;
};

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_DRAFTS_CONTEXT_EMBEDDING_H_
