// Frequencies of rotary position embeddings (Su et al. 2021, "RoFormer",
// arXiv:2104.09864) under the scalings that checkpoints ask for.
//
// The element pair i of a head at position p is rotated by the angle
// p * inverse_frequencies[i], and both cos and sin are multiplied by
// RopeScaling::attention_scaling. All arithmetic is in single precision in the
// order of operations of transformers' modeling_rope_utils, so that angles
// agree with those that the checkpoint was trained and published with.
#ifndef OCTOGATE_WORKERS_MODEL_ROPE_H_
#define OCTOGATE_WORKERS_MODEL_ROPE_H_

#include <cstdint>
#include <vector>

#include "workers/model/config.h"

namespace octogate::workers {

// LongRoPE has two sets of frequencies. transformers decides at every pass by
// the largest position in it: `max(position) + 1 >
// original_max_position_embeddings` takes the long set for all positions, and
// generation discards the KV cache when it crosses that border, because keys
// rotated by one set do not fit queries rotated by the other. Whoever caches
// keys has to do the same: choose by the sequence's total length, and prefill
// again from the first token when it crosses. All other kinds have one set.
enum class RopeRange { kShort, kLong };

// The range for a sequence of `num_tokens` tokens, the one being computed
// included. Always kShort unless the kind is kLongRope.
RopeRange RopeRangeForLength(const ModelConfig& config, int64_t num_tokens);

// rotary_dim / 2 angles per position, in radians.
std::vector<float> RopeInverseFrequencies(const ModelConfig& config, RopeRange range);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_ROPE_H_
