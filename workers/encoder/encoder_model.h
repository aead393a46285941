// A sentence encoder of the BERT family (Devlin et al. 2019, "BERT", arXiv:1810.04805; Reimers and
// Gurevych 2019, "Sentence-BERT", arXiv:1908.10084): the weights of a checkpoint in a backend's
// memory, and one pass of the model over some texts.
//
//   x = norm(words[ids] + positions + types[0])
//   each layer: x = norm(x + output(attention(query(x), key(x), value(x))))
//               x = norm(x + down(gelu(up(x))))
//
// Every row of a text attends to all of its rows. The result for a text depends on the text alone,
// not on what is computed beside it, nor on the number of threads.
//
// Driven by one thread at a time, as the backend is.
#ifndef OCTOGATE_WORKERS_ENCODER_ENCODER_MODEL_H_
#define OCTOGATE_WORKERS_ENCODER_ENCODER_MODEL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/weight_format.h"
#include "workers/engine/weight_loader.h"
#include "workers/model/encoder_checkpoint.h"

namespace octogate::workers {

// Of one pass.
struct EncoderLimits {
  int max_rows = 1;   // tokens of all texts together
  int max_texts = 1;  // at most max_rows
};

class EncoderModel {
 public:
  // Bytes that the weights take at most, those read in place included.
  static uint64_t WeightBytes(const EncoderCheckpoint& checkpoint, const kernels::Backend& backend,
                              kernels::WeightFormat format);
  // Bytes of activations, and of the keys and values of one layer.
  static uint64_t ActivationBytes(const EncoderConfig& config, const EncoderLimits& limits);

  // `backend` must outlive the model; `checkpoint` is kept, since weights may be read in place.
  // `format` is that of all matrices but the embeddings. RESOURCE_EXHAUSTED where the backend
  // cannot have the memory.
  static absl::StatusOr<std::unique_ptr<EncoderModel>> Load(
      std::shared_ptr<const EncoderCheckpoint> checkpoint, kernels::Backend* backend,
      const EncoderLimits& limits, kernels::WeightFormat format = kernels::WeightFormat::kStored);

  // `ids` holds the texts one behind the other, text t with lengths[t] >= 1 tokens, at most
  // max_position_embeddings; ids are in [0, vocab_size). Writes to host memory the last hidden
  // states: [ids.size(), hidden_size].
  void Forward(std::span<const int32_t> ids, std::span<const int> lengths, std::span<float> hidden);

  const EncoderConfig& config() const { return checkpoint_->config(); }
  const WeightReport& weight_report() const { return weight_report_; }

 private:
  using BufferPtr = std::unique_ptr<kernels::Buffer>;
  using WeightPtr = std::unique_ptr<kernels::Weight>;

  struct Linear {
    WeightPtr weight;
    BufferPtr bias;
  };
  struct Norm {
    BufferPtr weight;
    BufferPtr bias;
  };
  struct Layer {
    Linear query, key, value, attention_output, up, down;
    Norm attention_norm, output_norm;
  };

  EncoderModel(std::shared_ptr<const EncoderCheckpoint> checkpoint, kernels::Backend* backend,
               const EncoderLimits& limits, kernels::WeightFormat format);

  absl::Status LoadWeights();
  absl::Status AllocateActivations();
  // Sums of the embeddings, in embedded_.
  void Embed(std::span<const int32_t> ids, std::span<const int> lengths);
  void LocateRows(std::span<const int> lengths);
  void Multiply(const Linear& linear, const float* x, int rows, bool accumulate, float* out,
                int out_stride);
  void Normalize(const Norm& norm, int rows);

  const std::shared_ptr<const EncoderCheckpoint> checkpoint_;
  kernels::Backend* const backend_;
  const EncoderLimits limits_;
  WeightReport weight_report_;

  Norm embedding_norm_;
  std::vector<Layer> layers_;
  // positions + types[0], on the host: [max_position_embeddings, hidden_size].
  std::vector<float> position_table_;

  // Activations, all [max_rows, …].
  BufferPtr x_;          // hidden_size
  BufferPtr qkv_;        // 3 hidden_size
  BufferPtr attention_;  // hidden_size
  // 2 intermediate_size: the feed-forward layer has no gate, so what the gate would multiply is a
  // row of ones.
  BufferPtr gate_ones_;
  BufferPtr gelu_;  // intermediate_size
  // Keys and values of the layer at work.
  std::unique_ptr<kernels::KvCache> cache_;

  // Scratch of Forward, so that it allocates nothing.
  std::vector<float> embedded_;
  std::vector<int32_t> pages_;
  std::vector<kernels::SequenceRows> sequences_;
};

// The vector of a text from its hidden states [rows, columns]; not scaled. `out` has `columns`.
void PoolRows(Pooling pooling, std::span<const float> hidden, int columns, std::span<float> out);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENCODER_ENCODER_MODEL_H_
