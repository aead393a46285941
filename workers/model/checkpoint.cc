#include "workers/model/checkpoint.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "workers/model/json_file.h"
#include "workers/model/tensor_resolver.h"

namespace octogate::workers {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxConfigBytes = 4 << 20;

// Buffers that old checkpoints saved and that are computed from the config.
bool IsDerivedBuffer(std::string_view name) { return name.ends_with(".rotary_emb.inv_freq"); }

WeightView Rows(const WeightView& matrix, int64_t first, int64_t count) {
  if (!matrix) return {};
  return {matrix.dtype, count, matrix.cols,
          matrix.data + static_cast<size_t>(first) * matrix.row_bytes()};
}

void ResolveAttention(TensorResolver& resolver, const ModelConfig& config,
                      const std::string& prefix, LayerWeights& layer) {
  const int64_t q = config.q_dim();
  const int64_t k = config.kv_dim();
  const int64_t h = config.hidden_size;
  if (config.fused_qkv) {
    const WeightView fused = resolver.Matrix(prefix + "qkv_proj.weight", q + 2 * k, h);
    layer.q_proj = Rows(fused, 0, q);
    layer.k_proj = Rows(fused, q, k);
    layer.v_proj = Rows(fused, q + k, k);
  } else {
    layer.q_proj = resolver.Matrix(prefix + "q_proj.weight", q, h);
    layer.k_proj = resolver.Matrix(prefix + "k_proj.weight", k, h);
    layer.v_proj = resolver.Matrix(prefix + "v_proj.weight", k, h);
  }
  if (config.qkv_bias) {
    layer.q_bias = resolver.Vector(prefix + "q_proj.bias", q);
    layer.k_bias = resolver.Vector(prefix + "k_proj.bias", k);
    layer.v_bias = resolver.Vector(prefix + "v_proj.bias", k);
  }
  if (config.qk_norm) {
    layer.q_norm = resolver.Vector(prefix + "q_norm.weight", config.head_dim);
    layer.k_norm = resolver.Vector(prefix + "k_norm.weight", config.head_dim);
  }
  layer.o_proj = resolver.Matrix(prefix + "o_proj.weight", h, q);
  if (config.o_bias) layer.o_bias = resolver.Vector(prefix + "o_proj.bias", h);
}

void ResolveMlp(TensorResolver& resolver, const ModelConfig& config, const std::string& prefix,
                LayerWeights& layer) {
  const int64_t m = config.intermediate_size;
  const int64_t h = config.hidden_size;
  if (config.fused_gate_up) {
    const WeightView fused = resolver.Matrix(prefix + "gate_up_proj.weight", 2 * m, h);
    layer.gate_proj = Rows(fused, 0, m);
    layer.up_proj = Rows(fused, m, m);
  } else {
    layer.gate_proj = resolver.Matrix(prefix + "gate_proj.weight", m, h);
    layer.up_proj = resolver.Matrix(prefix + "up_proj.weight", m, h);
  }
  layer.down_proj = resolver.Matrix(prefix + "down_proj.weight", h, m);
  if (config.mlp_bias) {
    layer.gate_bias = resolver.Vector(prefix + "gate_proj.bias", m);
    layer.up_bias = resolver.Vector(prefix + "up_proj.bias", m);
    layer.down_bias = resolver.Vector(prefix + "down_proj.bias", h);
  }
}

absl::StatusOr<ModelWeights> ResolveWeights(const SafetensorsCheckpoint& tensors,
                                            const ModelConfig& config,
                                            const std::string& directory) {
  TensorResolver resolver(tensors);
  ModelWeights weights;
  const int64_t h = config.hidden_size;
  weights.embed_tokens = resolver.Matrix("model.embed_tokens.weight", config.vocab_size, h);
  for (int i = 0; i < config.num_layers; ++i) {
    const std::string prefix = absl::StrCat("model.layers.", i, ".");
    LayerWeights layer;
    layer.input_norm = resolver.Vector(prefix + "input_layernorm.weight", h);
    ResolveAttention(resolver, config, prefix + "self_attn.", layer);
    layer.post_attention_norm = resolver.Vector(prefix + "post_attention_layernorm.weight", h);
    ResolveMlp(resolver, config, prefix + "mlp.", layer);
    weights.layers.push_back(layer);
  }
  weights.final_norm = resolver.Vector("model.norm.weight", h);
  if (config.tie_word_embeddings) {
    // Some tied checkpoints save the copy as well; the embedding is what counts.
    resolver.Ignore("lm_head.weight");
    weights.lm_head = weights.embed_tokens;
  } else {
    weights.lm_head = resolver.Matrix("lm_head.weight", config.vocab_size, h);
  }
  if (absl::Status status = resolver.Finish(directory, IsDerivedBuffer); !status.ok())
    return status;
  return weights;
}

}  // namespace

absl::StatusOr<Checkpoint> Checkpoint::Open(const fs::path& directory) {
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  const absl::StatusOr<std::string> config_json =
      ReadSmallFile(directory / "config.json", kMaxConfigBytes);
  if (!config_json.ok()) return config_json.status();
  absl::StatusOr<std::string> generation_json =
      ReadSmallFile(directory / "generation_config.json", kMaxConfigBytes);
  if (absl::IsNotFound(generation_json.status())) generation_json = "";
  if (!generation_json.ok()) return generation_json.status();

  absl::StatusOr<ModelConfig> config =
      ParseModelConfig(*config_json, *generation_json, directory.string());
  if (!config.ok()) return config.status();
  checkpoint.config_ = *std::move(config);

  absl::StatusOr<SafetensorsCheckpoint> tensors = SafetensorsCheckpoint::Open(directory);
  if (!tensors.ok()) return tensors.status();
  checkpoint.tensors_ = *std::move(tensors);

  absl::StatusOr<ModelWeights> weights =
      ResolveWeights(checkpoint.tensors_, checkpoint.config_, directory.string());
  if (!weights.ok()) return weights.status();
  checkpoint.weights_ = *std::move(weights);
  return checkpoint;
}

}  // namespace octogate::workers
