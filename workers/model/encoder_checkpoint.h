// A sentence encoder's Hugging Face folder as the encoder wants it: the architecture, and every
// weight by its role with its shape checked.
//
// Nothing is copied: all views point into the mapped files. Opening reads the headers only, so that
// memory can be checked before any weight is touched.
//
// Thread safety: const after Open; any number of threads may read.
#ifndef OCTOGATE_WORKERS_MODEL_ENCODER_CHECKPOINT_H_
#define OCTOGATE_WORKERS_MODEL_ENCODER_CHECKPOINT_H_

#include <cstdint>
#include <filesystem>
#include <vector>

#include "absl/status/statusor.h"
#include "workers/model/encoder_config.h"
#include "workers/model/fingerprint.h"
#include "workers/model/safetensors.h"
#include "workers/model/weight_view.h"

namespace octogate::workers {

// A linear layer or a norm.
struct WeightAndBias {
  WeightView weight;
  WeightView bias;
};

// Shapes in terms of EncoderConfig: h = hidden_size, m = intermediate_size.
struct EncoderLayerWeights {
  WeightAndBias query, key, value;  // [h, h], [1, h]
  WeightAndBias attention_output;   // [h, h], [1, h]
  WeightAndBias attention_norm;     // [1, h], [1, h]
  WeightAndBias up;                 // [m, h], [1, m]
  WeightAndBias down;               // [h, m], [1, h]
  WeightAndBias output_norm;        // [1, h], [1, h]
};

struct EncoderWeights {
  WeightView words;      // [vocab_size, h]
  WeightView positions;  // [max_position_embeddings, h]
  WeightView types;      // [type_vocab_size, h]
  WeightAndBias embedding_norm;
  std::vector<EncoderLayerWeights> layers;  // num_layers
};

class EncoderCheckpoint {
 public:
  // Tensors may have the prefix "bert."; norms may be called weight and bias or, as in the oldest
  // files, gamma and beta; the pooler and the heads of pre-training are left out.
  //
  // INVALID_ARGUMENT for a missing, unexpected, misshapen or non-floating-point tensor, naming it
  // with what was expected; otherwise as ReadEncoderConfig and SafetensorsCheckpoint::Open.
  static absl::StatusOr<EncoderCheckpoint> Open(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  const EncoderConfig& config() const { return config_; }
  const EncoderWeights& weights() const { return weights_; }
  // Bytes of all tensors in the files' own dtypes, those that are left out included.
  uint64_t weight_bytes() const { return tensors_.total_bytes(); }

  // See fingerprint.h. Pooling is part of it.
  ModelFingerprint ComputeFingerprint() const;

 private:
  std::filesystem::path directory_;
  EncoderConfig config_;
  SafetensorsCheckpoint tensors_;
  EncoderWeights weights_;
};

// Number of weights in the architecture, without what is left out.
uint64_t CountParameters(const EncoderConfig& config);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_ENCODER_CHECKPOINT_H_
