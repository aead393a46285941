#include "retrieval/drafts/context_embedding.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace octogate::retrieval {
namespace {

// The output function of SplitMix64 (Steele, Lea and Flood 2014), a bijection that mixes well.
uint64_t Mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9U;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebU;
  return value ^ (value >> 31);
}

static_assert(kContextDimension == 64, "a sign for each bit of a hash");

}  // namespace

void ContextEmbedding::Embed(std::span<const int32_t> tokens,
                             std::span<float, kContextDimension> vector) const {
  std::array<float, kContextDimension> sum = {};
  const size_t used = std::min(tokens.size(), static_cast<size_t>(window));
  float weight = 1;
  for (size_t i = 0; i < used; ++i) {
    const uint64_t token = static_cast<uint32_t>(tokens[tokens.size() - 1 - i]);
    const uint64_t signs = Mix(Mix(seed + (static_cast<uint64_t>(i) << 32)) + token);
    const auto bits = std::bit_cast<uint32_t>(weight);
    for (size_t d = 0; d < kContextDimension; ++d) {
      sum[d] += std::bit_cast<float>(bits ^ (static_cast<uint32_t>(signs >> d) << 31));
    }
    weight *= decay;
  }
  float squares = 0;
  for (const float value : sum) squares += value * value;
  const float scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
  for (size_t d = 0; d < kContextDimension; ++d) vector[d] = sum[d] * scale;
}

}  // namespace octogate::retrieval
