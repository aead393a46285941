#include "workers/speculation/draft_head.h"

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "workers/model/json_file.h"
#include "workers/model/tensor_resolver.h"

namespace octogate::workers {
namespace {

constexpr size_t kMaxConfigBytes = size_t{1} << 20;

absl::Status CheckSizes(const std::string& folder, const ModelConfig& head,
                        const ModelConfig& model) {
  const auto differs = [&](const char* what, int of_head, int of_model) {
    return absl::FailedPreconditionError(
        absl::StrCat(folder, ": the draft head has ", what, " ", of_head,
                     ", and the model that it is to draft for ", of_model,
                     "; take a head that was trained for this model"));
  };
  if (head.hidden_size != model.hidden_size) {
    return differs("hidden size", head.hidden_size, model.hidden_size);
  }
  if (head.vocab_size != model.vocab_size) {
    return differs("a vocabulary of", head.vocab_size, model.vocab_size);
  }
  if (head.num_layers != 1) {
    return absl::FailedPreconditionError(
        absl::StrCat(folder, ": a draft head has one layer, this one has ", head.num_layers,
                     "; a small model drafts as the draft model"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DraftHead> DraftHead::Open(const std::filesystem::path& folder,
                                          const ModelConfig& model) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::string json,
                            ReadSmallFile(folder / "config.json", kMaxConfigBytes));
  DraftHead head;
  OCTOGATE_ASSIGN_OR_RETURN(head.config_, ParseModelConfig(json, "", folder.string()));
  OCTOGATE_RETURN_IF_ERROR(CheckSizes(folder.string(), head.config_, model));
  OCTOGATE_ASSIGN_OR_RETURN(head.tensors_, SafetensorsCheckpoint::Open(folder));

  const ModelConfig& config = head.config_;
  const int64_t size = config.hidden_size;
  TensorResolver resolver(head.tensors_);
  head.join = resolver.Matrix("fc.weight", size, 2 * size);
  if (resolver.Has("fc.bias")) head.join_bias = resolver.Vector("fc.bias", size);
  if (resolver.Has("embed_tokens.weight")) {
    head.embed_tokens = resolver.Matrix("embed_tokens.weight", config.vocab_size, size);
  }
  const std::string attention = "layers.0.self_attn.";
  head.q = resolver.Matrix(attention + "q_proj.weight", config.q_dim(), size);
  head.k = resolver.Matrix(attention + "k_proj.weight", config.kv_dim(), size);
  head.v = resolver.Matrix(attention + "v_proj.weight", config.kv_dim(), size);
  head.o = resolver.Matrix(attention + "o_proj.weight", size, config.q_dim());
  head.post_attention_norm = resolver.Vector("layers.0.post_attention_layernorm.weight", size);
  const std::string mlp = "layers.0.mlp.";
  head.gate = resolver.Matrix(mlp + "gate_proj.weight", config.intermediate_size, size);
  head.up = resolver.Matrix(mlp + "up_proj.weight", config.intermediate_size, size);
  head.down = resolver.Matrix(mlp + "down_proj.weight", size, config.intermediate_size);
  OCTOGATE_RETURN_IF_ERROR(
      resolver.Finish(folder.string(), [](std::string_view /*name*/) { return false; }));
  return head;
}

}  // namespace octogate::workers
