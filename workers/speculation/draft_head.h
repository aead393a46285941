// The weights of a head that drafts from the hidden states of a model, as EAGLE does (Li et al.
// 2024, arXiv:2401.15077): one layer of a Llama, of which row i reads the embedding of token i + 1
// and the model's last hidden state at token i, joined by one matrix; the model's own output matrix
// then tells the next token. What drafts with it is not part of this release.
#ifndef OCTOGATE_WORKERS_SPECULATION_DRAFT_HEAD_H_
#define OCTOGATE_WORKERS_SPECULATION_DRAFT_HEAD_H_

#include <cstdint>
#include <filesystem>

#include "absl/status/statusor.h"
#include "workers/model/config.h"
#include "workers/model/safetensors.h"
#include "workers/model/weight_view.h"

namespace octogate::workers {

class DraftHead {
 public:
  // A folder with a config.json, of a Llama with one layer, and safetensors with the names that
  // EAGLE's first and second version give them: fc.weight [hidden, 2 hidden], where the embedding
  // comes first; fc.bias, if there is one; embed_tokens.weight, if it has one of its own;
  // layers.0.self_attn.*, layers.0.mlp.*, layers.0.post_attention_layernorm.weight, and no norm
  // before attention.
  //
  // FAILED_PRECONDITION where its sizes are not those of `model`; INVALID_ARGUMENT, naming the
  // tensors and what was expected, where weights do not match config.json; otherwise as
  // ParseModelConfig and SafetensorsCheckpoint::Open.
  static absl::StatusOr<DraftHead> Open(const std::filesystem::path& folder,
                                        const ModelConfig& model);

  const ModelConfig& config() const { return config_; }
  uint64_t weight_bytes() const { return tensors_.total_bytes(); }

  // As long as the head lives. Empty views: there is none.
  WeightView join;       // fc.weight
  WeightView join_bias;  // fc.bias
  WeightView embed_tokens;
  WeightView q, k, v, o;
  WeightView post_attention_norm;
  WeightView gate, up, down;

 private:
  ModelConfig config_;
  SafetensorsCheckpoint tensors_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_DRAFT_HEAD_H_
