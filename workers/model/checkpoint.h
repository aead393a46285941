// A Hugging Face checkpoint folder as an engine wants it: the architecture, and
// every weight by its role with its shape checked.
//
// Nothing is copied: all views point into the mapped files. Opening reads the
// headers only, so that memory can be checked before any weight is touched.
//
// Thread safety: const after Open; any number of threads may read.
#ifndef OCTOGATE_WORKERS_MODEL_CHECKPOINT_H_
#define OCTOGATE_WORKERS_MODEL_CHECKPOINT_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "workers/model/config.h"
#include "workers/model/dtype.h"
#include "workers/model/fingerprint.h"
#include "workers/model/safetensors.h"
#include "workers/model/weight_view.h"

namespace octogate::workers {

// Shapes in terms of ModelConfig: h = hidden_size, q = q_dim(), k = kv_dim(),
// m = intermediate_size, d = head_dim.
struct LayerWeights {
  WeightView input_norm;              // [1, h]
  WeightView q_proj, k_proj, v_proj;  // [q, h], [k, h], [k, h]; row ranges of one
                                      // matrix, adjacent, where config.fused_qkv
  WeightView q_bias, k_bias, v_bias;  // [1, q], [1, k], [1, k]; with config.qkv_bias
  WeightView q_norm, k_norm;          // [1, d]; with config.qk_norm
  WeightView o_proj;                  // [h, q]
  WeightView o_bias;                  // [1, h]; with config.o_bias
  WeightView post_attention_norm;     // [1, h]
  WeightView gate_proj, up_proj;      // [m, h]; row ranges of one matrix, adjacent,
                                      // where config.fused_gate_up
  WeightView down_proj;               // [h, m]
  WeightView gate_bias, up_bias;      // [1, m]; with config.mlp_bias
  WeightView down_bias;               // [1, h]; with config.mlp_bias
};

struct ModelWeights {
  WeightView embed_tokens;           // [vocab_size, h]
  std::vector<LayerWeights> layers;  // config.num_layers
  WeightView final_norm;             // [1, h]
  WeightView lm_head;                // [vocab_size, h]; embed_tokens when tied
};

class Checkpoint {
 public:
  // Reads config.json and generation_config.json (optional), maps the
  // safetensors files, and resolves every weight.
  //
  // INVALID_ARGUMENT for a missing, unexpected, misshapen or non-floating-point
  // tensor, naming it with what was expected; otherwise as ParseModelConfig and
  // SafetensorsCheckpoint::Open.
  static absl::StatusOr<Checkpoint> Open(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }
  // Bytes of all weights in the files' own dtypes.
  uint64_t weight_bytes() const { return tensors_.total_bytes(); }

  // A 128-bit hash (MurmurHash3 x64 128) over the configuration that affects
  // results and over every tensor's name, dtype, shape and all bytes; the same
  // on every machine, however the tensors are spread over files. Reads every
  // weight, in one pass that leaves the files in the page cache.
  ModelFingerprint ComputeFingerprint() const;

 private:
  std::filesystem::path directory_;
  ModelConfig config_;
  SafetensorsCheckpoint tensors_;
  ModelWeights weights_;
};

// Bytes that a model needs, known from its config alone.
struct MemoryEstimate {
  uint64_t weights = 0;
  uint64_t kv = 0;           // keys and values of all layers for all tokens
  uint64_t activations = 0;  // scratch of one step, logits included

  uint64_t total() const;  // saturates
};

struct MemoryPlan {
  DType weight_dtype = DType::kF32;  // as held in memory
  DType kv_dtype = DType::kF32;
  int64_t kv_tokens = 0;    // positions of all sequences together
  int64_t step_tokens = 0;  // tokens in the largest step; activations are F32
  int64_t logit_rows = 0;   // positions per step whose logits are computed
};

// Saturates instead of overflowing.
MemoryEstimate EstimateMemory(const ModelConfig& config, const MemoryPlan& plan);

// Number of weights in the architecture; a tied lm_head counts once.
uint64_t CountParameters(const ModelConfig& config);

// RESOURCE_EXHAUSTED with all the numbers when the estimate exceeds `limit_bytes`.
absl::Status CheckMemory(const MemoryEstimate& estimate, uint64_t limit_bytes,
                         std::string_view model_name);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_CHECKPOINT_H_
