// The architecture of a sentence encoder, read from a Hugging Face folder: config.json of the BERT
// family and, where they are there, the files that sentence-transformers adds (modules.json and
// what it names).
#ifndef OCTOGATE_WORKERS_MODEL_ENCODER_CONFIG_H_
#define OCTOGATE_WORKERS_MODEL_ENCODER_CONFIG_H_

#include <filesystem>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace octogate::workers {

// How the hidden states of a text become one vector.
enum class Pooling {
  kMean,  // of all positions
  kCls,   // that of the first one
};

std::string_view PoolingName(Pooling pooling);  // "mean", "cls"

// All sizes are positive, and consistent with one another, once parsed.
struct EncoderConfig {
  int hidden_size = 0;  // num_heads * head_dim
  int intermediate_size = 0;
  int num_layers = 0;
  int num_heads = 0;
  int head_dim = 0;
  int vocab_size = 0;               // rows of the embedding; a tokenizer may use fewer
  int max_position_embeddings = 0;  // rows of the table of positions
  int type_vocab_size = 0;
  float layer_norm_eps = 0;
  bool tanh_gelu = false;  // the approximation instead of the exact function

  Pooling pooling = Pooling::kMean;
  // Longest text in tokens, special tokens included; at most max_position_embeddings.
  int max_tokens = 0;

  bool operator==(const EncoderConfig&) const = default;
};

// Whether the folder's config.json names a model of the BERT family. Errors as ReadSmallFile and
// ParseJson; what a BERT config lacks is for ReadEncoderConfig to say.
absl::StatusOr<bool> IsEncoderFolder(const std::filesystem::path& directory);

// A folder without modules.json is pooled by the mean, as sentence-transformers does. Whether the
// modules end with Normalize makes no difference here: the caller scales as it needs.
//
// INVALID_ARGUMENT for broken JSON, a missing or mistyped key, or sizes that contradict each other;
// UNIMPLEMENTED for a module, a pooling, an activation or a kind of position embedding that is not
// supported, with what is. Each names the file.
absl::StatusOr<EncoderConfig> ReadEncoderConfig(const std::filesystem::path& directory);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_ENCODER_CONFIG_H_
