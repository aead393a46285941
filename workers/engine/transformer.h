// A decoder-only transformer: the weights of a checkpoint in a backend's memory, and one pass of
// the model over the rows of a step.
//
// All families share one shape (Touvron et al. 2023, "LLaMA", arXiv:2302.13971); what differs is
// read from ModelConfig: biases (Qwen2), norms of query and key heads (Qwen3), fused projections
// and LongRoPE (Phi-3), sliding windows (Mistral, Phi-3).
//
//   x = embed(ids)
//   each layer: x += o(attention(rope(norm_qk(qkv(norm(x))))));  x += down(silu(gate(h)) * up(h)),
//               h = norm(x)
//   logits = lm_head(norm(x))
//
// The last layer needs keys and values of every row, but everything behind them only for the rows
// that are asked for.
//
// Driven by one thread at a time, as the backend is.
#ifndef OCTOGATE_WORKERS_ENGINE_TRANSFORMER_H_
#define OCTOGATE_WORKERS_ENGINE_TRANSFORMER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/weight_format.h"
#include "workers/engine/weight_loader.h"
#include "workers/model/checkpoint.h"
#include "workers/model/rope.h"

namespace octogate::workers {

struct TransformerLimits {
  int max_rows = 1;        // of a step
  int max_logit_rows = 1;  // of a step; at most max_rows
};

// The rows of one sequence in a step: a chain, or a tree of drafts (kernels::SequenceRows).
struct StepSequence {
  int row_count = 0;
  int first_position = 0;          // position of its first row; of all roots of a tree
  std::span<const int32_t> pages;  // pages[p / page_size] holds slot p
  // A tree's masks, one for each row; empty for a chain. Row i takes slot first_position + i: pages
  // have to reach as far, though no row may stand that deep. Logits and hidden states of a row are
  // those of a plain decode of its path, bit for bit.
  std::span<const kernels::AncestorMask> ancestors = {};
  // RopeRangeForLength of the whole sequence as it is known now, whatever part of it this step
  // computes: so the result does not depend on how a prompt is cut. All positions of a sequence
  // have to be computed again when the range changes.
  RopeRange rope_range = RopeRange::kShort;
};

struct StepInput {
  std::span<const int32_t> ids;             // one for each row; in [0, vocab_size)
  std::span<const StepSequence> sequences;  // in order of their rows
  // Rows whose logits, and rows whose final hidden states are wanted; ascending, none in both.
  std::span<const int32_t> logit_rows;
  std::span<const int32_t> hidden_rows;
};

class Transformer {
 public:
  // Of RankLogits.
  struct LargestLogits {
    std::vector<int32_t> ids;  // [logit rows, count], as `logits`
    std::vector<float> logits;
    std::vector<float> log_sum_exp;  // [logit rows]
  };
  // Of DrawLogits.
  struct DrawnLogits {
    std::vector<int32_t> ids;  // [draws]
    std::vector<float> logits;
  };

  // Bytes that the weights take on such a backend, those that stay in the checkpoint's memory
  // included. Vectors count as they are stored.
  static uint64_t WeightBytes(const Checkpoint& checkpoint, const kernels::Backend& backend,
                              kernels::WeightFormat format);
  // Floats of activation memory that a transformer takes, times four in bytes.
  static uint64_t ActivationBytes(const ModelConfig& config, const TransformerLimits& limits);

  // `backend` must outlive the transformer; `checkpoint` is kept, since the embedding may be read
  // in place. `format` is that of all matrices but the embedding, which a tied head then no longer
  // shares. RESOURCE_EXHAUSTED where the backend cannot have the memory.
  static absl::StatusOr<std::unique_ptr<Transformer>> Load(
      std::shared_ptr<const Checkpoint> checkpoint, kernels::Backend* backend,
      const TransformerLimits& limits,
      kernels::WeightFormat format = kernels::WeightFormat::kStored);

  // A cache of the model's shape. RESOURCE_EXHAUSTED where the backend cannot have the memory.
  absl::StatusOr<std::unique_ptr<kernels::KvCache>> CreateKvCache(int pages, int page_size,
                                                                  kernels::DType dtype) const;

  // Computes a step: writes keys and values of all rows, and to host memory
  //   logits: [logit_rows.size(), vocab_size], or nothing: then they stay in the backend's memory
  //           for RankLogits, DrawLogits and CopyLogits
  //   hidden: [hidden_rows.size(), hidden_size], after the final norm
  void Forward(const StepInput& step, kernels::KvCache& cache, std::span<float> logits,
               std::span<float> hidden);

  // Backend::WarmSteps.
  int warm_steps() const { return backend_->WarmSteps(); }
  // Of the logits of the last step: the `count` largest of each row and log(sum(exp)) of all, as
  // Backend::TopK gives them; and one row, given as its index among the step's logit_rows.
  void RankLogits(int count, LargestLogits& largest);
  // What Backend::Draw draws from them; rows are given as by CopyLogits.
  void DrawLogits(std::span<const kernels::LogitDraw> draws, DrawnLogits& drawn);
  // Backend::EditLogits: what is done later finds them edited.
  void EditLogits(std::span<const kernels::LogitEdit> edits);
  void CopyLogits(int index, std::span<float> logits);
  // The hidden state, after the final norm, that such a row's logits were made of: hidden_size
  // values.
  void CopyLogitHidden(int index, std::span<float> hidden);

  // Leaves in the cache, of the rows of a tree that started at `first_position`, only `path`: a row
  // and its ancestors, ascending. Its i-th row then has position and slot first_position + i, as if
  // it had been decoded there.
  void KeepPath(kernels::KvCache& cache, std::span<const int32_t> pages, int first_position,
                std::span<const int32_t> path);

  const ModelConfig& config() const { return checkpoint_->config(); }
  const WeightReport& weight_report() const { return weight_report_; }

 private:
  using BufferPtr = std::unique_ptr<kernels::Buffer>;
  using WeightPtr = std::unique_ptr<kernels::Weight>;

  struct Layer {
    BufferPtr input_norm, post_attention_norm;
    BufferPtr q_norm, k_norm;  // null without
    // Projections of the same input as one matrix, [q + 2 kv, h], or null and each by itself where
    // the checkpoint has them in different types.
    WeightPtr qkv;
    BufferPtr qkv_bias;
    WeightPtr q, k, v;
    BufferPtr q_bias, k_bias, v_bias;  // all biases are null without
    WeightPtr o;
    BufferPtr o_bias;
    WeightPtr gate_up;  // [2 m, h], or null and
    BufferPtr gate_up_bias;
    WeightPtr gate, up;
    BufferPtr gate_bias, up_bias;
    WeightPtr down;
    BufferPtr down_bias;
  };

  Transformer(std::shared_ptr<const Checkpoint> checkpoint, kernels::Backend* backend,
              const TransformerLimits& limits, kernels::WeightFormat format);

  absl::Status LoadWeights();
  absl::Status AllocateActivations();
  absl::Status Allocate(uint64_t floats, BufferPtr& buffer);

  // Queries, keys and values of a step, rotated.
  void ProjectQkv(const Layer& layer, int rows, std::span<const StepSequence> sequences);
  void Rotate(std::span<const StepSequence> sequences);
  // x += attention output projection of `attention`; x += feed-forward of x.
  void FinishLayer(const Layer& layer, int rows, const float* attention, float* x);

  const std::shared_ptr<const Checkpoint> checkpoint_;
  kernels::Backend* const backend_;
  const TransformerLimits limits_;
  WeightReport weight_report_;

  WeightPtr embed_tokens_;
  WeightPtr lm_head_;  // null where tied
  BufferPtr final_norm_;
  std::vector<Layer> layers_;
  std::vector<float> inverse_frequencies_short_;
  std::vector<float> inverse_frequencies_long_;

  // Activations, all [max_rows, …]. Queries, keys and values lie side by side in the rows of qkv_.
  BufferPtr x_;          // hidden_size: the residual stream
  BufferPtr normed_;     // hidden_size
  BufferPtr qkv_;        // q_dim + 2 kv_dim
  BufferPtr attention_;  // q_dim
  BufferPtr gate_up_;    // 2 intermediate_size
  BufferPtr gated_;      // intermediate_size
  BufferPtr selected_;   // hidden_size: the rows of x_ that are asked for
  BufferPtr logits_;     // [max_logit_rows, vocab_size]
  float* q_ = nullptr;
  float* k_ = nullptr;
  float* v_ = nullptr;
  int qkv_stride_ = 0;

  int logit_rows_ = 0;  // of the last step

  // Scratch of Forward, so that it allocates nothing.
  std::vector<int32_t> positions_;
  std::vector<int32_t> selected_rows_;
  std::vector<kernels::SequenceRows> sequence_rows_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_TRANSFORMER_H_
