// The architecture of a decoder-only language model, read from the config.json
// (and generation_config.json) of a Hugging Face checkpoint folder.
#ifndef OCTOGATE_WORKERS_MODEL_CONFIG_H_
#define OCTOGATE_WORKERS_MODEL_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "workers/model/dtype.h"

namespace octogate::workers {

// What differs between the families is spelt out by ModelConfig's flags; an
// engine that follows the flags need not look at the family.
enum class Family { kLlama, kMistral, kQwen2, kQwen3, kPhi3 };

std::string_view FamilyName(Family family);  // "llama", "qwen2", ...

// The gate of the feed-forward layer: silu(x) = x / (1 + exp(-x)).
enum class Activation { kSilu };

// How the base frequencies of rotary position embeddings are changed so that a
// model reaches past the context it was first trained on. rope.h computes the
// resulting frequencies.
struct RopeScaling {
  enum class Kind {
    kNone,
    kLinear,    // every frequency divided by `factor`
    kLlama3,    // Llama 3.1: low frequencies divided, high kept, smooth between
    kLongRope,  // Phi-3: a factor per frequency, one list up to the original
                // context and another beyond it
    kYarn,      // Peng et al. 2023, "YaRN", arXiv:2309.00071
  };
  Kind kind = Kind::kNone;
  float factor = 1.0f;
  // kLlama3.
  float low_freq_factor = 1.0f;
  float high_freq_factor = 4.0f;
  // kLlama3, kLongRope, kYarn: tokens of context in the first training.
  int original_max_position_embeddings = 0;
  // kLongRope: rotary_dim / 2 divisors each.
  std::vector<float> short_factor;
  std::vector<float> long_factor;
  // kYarn.
  float beta_fast = 32.0f;
  float beta_slow = 1.0f;
  bool truncate = true;
  // kLongRope, kYarn: what cos and sin are multiplied by, resolved while
  // parsing from the file's value or from the factors. 1 for other kinds.
  float attention_scaling = 1.0f;

  bool operator==(const RopeScaling&) const = default;
};

// All sizes are positive, and consistent with one another, once parsed.
struct ModelConfig {
  Family family = Family::kLlama;
  int hidden_size = 0;
  int intermediate_size = 0;
  int num_layers = 0;
  int num_heads = 0;
  int num_kv_heads = 0;             // divides num_heads
  int head_dim = 0;                 // even; num_heads * head_dim may differ from hidden_size
  int vocab_size = 0;               // rows of the embedding; a tokenizer may use fewer
  int max_position_embeddings = 0;  // longest context, prompt and answer together
  float rms_norm_eps = 0;

  float rope_theta = 0;
  // Of each head's head_dim elements the first rotary_dim are rotated, element
  // i paired with element i + rotary_dim / 2 (the "rotate half" layout).
  int rotary_dim = 0;  // even, at most head_dim
  RopeScaling rope_scaling;

  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;  // RMSNorm over head_dim of each query and key head, before rotation
  bool tie_word_embeddings = false;
  bool fused_qkv = false;      // the file holds qkv_proj, rows in the order q, k, v
  bool fused_gate_up = false;  // the file holds gate_up_proj, rows in the order gate, up
  Activation hidden_act = Activation::kSilu;

  // With window w the query at position p sees the keys at positions
  // p - w + 1 .. p. One entry per layer; 0 is full causal attention.
  std::vector<int> layer_sliding_window;

  // Generation ends at any of these; generation_config.json overrides config.json.
  std::vector<int32_t> eos_token_ids;
  std::optional<int32_t> bos_token_id;

  // What the file declares its weights to be; the tensors themselves decide.
  DType torch_dtype = DType::kF32;

  int group_size() const { return num_heads / num_kv_heads; }  // query heads per key head
  int q_dim() const { return num_heads * head_dim; }
  int kv_dim() const { return num_kv_heads * head_dim; }

  bool operator==(const ModelConfig&) const = default;
};

// Bounds that every checkpoint known today keeps far away from, and that keep
// products of sizes within 63 bits.
inline constexpr int kMaxHiddenSize = 1 << 20;
inline constexpr int kMaxLayers = 1 << 12;
inline constexpr int kMaxHeads = 1 << 14;
inline constexpr int kMaxVocabSize = 1 << 24;
inline constexpr int kMaxContext = 1 << 28;

// Parses the text of config.json and, unless empty, of generation_config.json.
// `source_name` (usually the folder) opens each error message.
//
// Keys that are absent take the default that Hugging Face transformers gives
// them for that family; both spellings, `rope_scaling` + `rope_theta` +
// `torch_dtype` (transformers 4) and `rope_parameters` + `dtype`
// (transformers 5), are understood.
//
// Errors: INVALID_ARGUMENT for broken JSON, a missing or mistyped key, or sizes
// that contradict each other; UNIMPLEMENTED for an architecture, rope type,
// activation or quantization that is not supported, with what is.
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view config_json,
                                             std::string_view generation_config_json,
                                             std::string_view source_name);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_CONFIG_H_
