#include "workers/model/fingerprint.h"

#include <bit>
#include <span>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/hash128.h"
#include "workers/model/checkpoint.h"

namespace octogate::workers {
namespace {

// Part of the fingerprint: raise it when what goes into the hash changes.
constexpr int kFingerprintVersion = 1;

void AppendFloat(std::string& text, float value) {
  absl::StrAppend(&text, absl::Hex(std::bit_cast<uint32_t>(value), absl::kZeroPad8), ",");
}

// Everything in the config that changes a logit. Not the end-of-sequence ids,
// nor the context limit: they end a generation without changing it.
std::string ResultAffectingConfig(const ModelConfig& config) {
  std::string text = absl::StrCat("fingerprint ", kFingerprintVersion, ";");
  for (const int value :
       {static_cast<int>(config.family), config.hidden_size, config.intermediate_size,
        config.num_layers, config.num_heads, config.num_kv_heads, config.head_dim,
        config.vocab_size, config.rotary_dim, static_cast<int>(config.rope_scaling.kind),
        config.rope_scaling.original_max_position_embeddings, int{config.rope_scaling.truncate},
        int{config.qkv_bias}, int{config.o_bias}, int{config.mlp_bias}, int{config.qk_norm},
        int{config.tie_word_embeddings}, static_cast<int>(config.hidden_act)}) {
    absl::StrAppend(&text, value, ",");
  }
  const RopeScaling& rope = config.rope_scaling;
  for (const float value :
       {config.rms_norm_eps, config.rope_theta, rope.factor, rope.low_freq_factor,
        rope.high_freq_factor, rope.beta_fast, rope.beta_slow, rope.attention_scaling}) {
    AppendFloat(text, value);
  }
  for (const float value : rope.short_factor) AppendFloat(text, value);
  absl::StrAppend(&text, ";");
  for (const float value : rope.long_factor) AppendFloat(text, value);
  absl::StrAppend(&text, ";");
  for (const int window : config.layer_sliding_window) absl::StrAppend(&text, window, ",");
  return text;
}

}  // namespace

std::string ModelFingerprint::ToHex() const { return absl::StrFormat("%016x%016x", high, low); }

ModelFingerprint ComputeFingerprint(std::string config, const SafetensorsCheckpoint& tensors) {
  std::string& text = config;
  for (const TensorView& tensor : tensors.tensors()) {
    const Hash128 contents = HashBytes(tensor.data, 0);
    absl::StrAppend(&text, ";", tensor.name.size(), ":", std::string(tensor.name), ":",
                    std::string(DTypeName(tensor.dtype)), ":");
    for (const int64_t size : tensor.shape) absl::StrAppend(&text, size, ",");
    absl::StrAppend(&text, absl::Hex(contents.high, absl::kZeroPad16),
                    absl::Hex(contents.low, absl::kZeroPad16));
  }
  const Hash128 hash = HashBytes(std::as_bytes(std::span(text)), kFingerprintVersion);
  return {hash.high, hash.low};
}

ModelFingerprint Checkpoint::ComputeFingerprint() const {
  return workers::ComputeFingerprint(ResultAffectingConfig(config_), tensors_);
}

}  // namespace octogate::workers
