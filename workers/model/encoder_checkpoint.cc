#include "workers/model/encoder_checkpoint.h"

#include <bit>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "workers/model/tensor_resolver.h"

namespace octogate::workers {
namespace {

// Part of the fingerprint: raise it when what goes into the hash changes.
constexpr int kFingerprintVersion = 1;

// The pooler and heads of pre-training, and a buffer that old files have.
bool MayBeLeft(std::string_view name) {
  if (name.starts_with("bert.")) name.remove_prefix(5);
  return name.starts_with("pooler.") || name.starts_with("cls.") ||
         name == "embeddings.position_ids";
}

WeightAndBias Linear(TensorResolver& resolver, const std::string& name, int64_t rows,
                     int64_t cols) {
  return {resolver.Matrix(name + ".weight", rows, cols), resolver.Vector(name + ".bias", rows)};
}

WeightAndBias Norm(TensorResolver& resolver, const std::string& name, int64_t size) {
  const bool old = !resolver.Has(name + ".weight") && resolver.Has(name + ".gamma");
  return {resolver.Vector(name + (old ? ".gamma" : ".weight"), size),
          resolver.Vector(name + (old ? ".beta" : ".bias"), size)};
}

absl::StatusOr<EncoderWeights> ResolveWeights(const SafetensorsCheckpoint& tensors,
                                              const EncoderConfig& config,
                                              const std::string& directory) {
  TensorResolver resolver(tensors);
  const std::string prefix = resolver.Has("bert.embeddings.word_embeddings.weight") ? "bert." : "";
  const int64_t h = config.hidden_size;
  const int64_t m = config.intermediate_size;
  EncoderWeights weights;
  const std::string embeddings = prefix + "embeddings.";
  weights.words = resolver.Matrix(embeddings + "word_embeddings.weight", config.vocab_size, h);
  weights.positions =
      resolver.Matrix(embeddings + "position_embeddings.weight", config.max_position_embeddings, h);
  weights.types =
      resolver.Matrix(embeddings + "token_type_embeddings.weight", config.type_vocab_size, h);
  weights.embedding_norm = Norm(resolver, embeddings + "LayerNorm", h);
  for (int i = 0; i < config.num_layers; ++i) {
    const std::string layer = absl::StrCat(prefix, "encoder.layer.", i, ".");
    weights.layers.push_back(
        {.query = Linear(resolver, layer + "attention.self.query", h, h),
         .key = Linear(resolver, layer + "attention.self.key", h, h),
         .value = Linear(resolver, layer + "attention.self.value", h, h),
         .attention_output = Linear(resolver, layer + "attention.output.dense", h, h),
         .attention_norm = Norm(resolver, layer + "attention.output.LayerNorm", h),
         .up = Linear(resolver, layer + "intermediate.dense", m, h),
         .down = Linear(resolver, layer + "output.dense", h, m),
         .output_norm = Norm(resolver, layer + "output.LayerNorm", h)});
  }
  OCTOGATE_RETURN_IF_ERROR(resolver.Finish(directory, MayBeLeft));
  return weights;
}

}  // namespace

absl::StatusOr<EncoderCheckpoint> EncoderCheckpoint::Open(const std::filesystem::path& directory) {
  EncoderCheckpoint checkpoint;
  checkpoint.directory_ = directory;
  OCTOGATE_ASSIGN_OR_RETURN(checkpoint.config_, ReadEncoderConfig(directory));
  OCTOGATE_ASSIGN_OR_RETURN(checkpoint.tensors_, SafetensorsCheckpoint::Open(directory));
  OCTOGATE_ASSIGN_OR_RETURN(
      checkpoint.weights_,
      ResolveWeights(checkpoint.tensors_, checkpoint.config_, directory.string()));
  return checkpoint;
}

ModelFingerprint EncoderCheckpoint::ComputeFingerprint() const {
  std::string text = absl::StrCat(
      "encoder fingerprint ", kFingerprintVersion, ";", config_.hidden_size, ",",
      config_.intermediate_size, ",", config_.num_layers, ",", config_.num_heads, ",",
      config_.vocab_size, ",", config_.max_position_embeddings, ",", config_.type_vocab_size, ",",
      int{config_.tanh_gelu}, ",", static_cast<int>(config_.pooling), ",", config_.max_tokens, ",",
      absl::Hex(std::bit_cast<uint32_t>(config_.layer_norm_eps), absl::kZeroPad8));
  return workers::ComputeFingerprint(std::move(text), tensors_);
}

uint64_t CountParameters(const EncoderConfig& config) {
  const auto h = static_cast<uint64_t>(config.hidden_size);
  const auto m = static_cast<uint64_t>(config.intermediate_size);
  const uint64_t tables = static_cast<uint64_t>(config.vocab_size) +
                          static_cast<uint64_t>(config.max_position_embeddings) +
                          static_cast<uint64_t>(config.type_vocab_size);
  const uint64_t layer = 4 * h * (h + 1)              // query, key, value, output
                         + m * (h + 1) + h * (m + 1)  // up, down
                         + 4 * h;                     // norms
  return tables * h + 2 * h + layer * static_cast<uint64_t>(config.num_layers);
}

}  // namespace octogate::workers
