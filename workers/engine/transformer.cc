#include "workers/engine/transformer.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace octogate::workers {
namespace {

int64_t QkvWidth(const ModelConfig& config) {
  return int64_t{config.q_dim()} + 2 * int64_t{config.kv_dim()};
}

// Floats in a row of all activations together.
uint64_t FloatsPerRow(const ModelConfig& config) {
  return 3 * static_cast<uint64_t>(config.hidden_size) + static_cast<uint64_t>(QkvWidth(config)) +
         static_cast<uint64_t>(config.q_dim()) +
         3 * static_cast<uint64_t>(config.intermediate_size);
}

bool HasTiedHead(const ModelWeights& weights) {
  return weights.lm_head.data == weights.embed_tokens.data;
}

// Whether one weight is both the embedding and the head.
bool SharesEmbedding(const ModelWeights& weights, kernels::WeightFormat format) {
  return HasTiedHead(weights) && format == kernels::WeightFormat::kStored;
}

// What is loaded as one matrix where all are of a type.
std::array<WeightView, 3> QkvOf(const LayerWeights& layer) {
  return {layer.q_proj, layer.k_proj, layer.v_proj};
}
std::array<WeightView, 2> GateUpOf(const LayerWeights& layer) {
  return {layer.gate_proj, layer.up_proj};
}

bool SameType(std::span<const WeightView> views) {
  return std::all_of(views.begin(), views.end(),
                     [&](const WeightView& view) { return view.dtype == views[0].dtype; });
}

const float* DataOrNull(const std::unique_ptr<kernels::Buffer>& buffer) {
  return buffer ? buffer->data() : nullptr;
}

}  // namespace

uint64_t Transformer::ActivationBytes(const ModelConfig& config, const TransformerLimits& limits) {
  return sizeof(float) *
         (FloatsPerRow(config) * static_cast<uint64_t>(limits.max_rows) +
          static_cast<uint64_t>(config.vocab_size) * static_cast<uint64_t>(limits.max_logit_rows));
}

uint64_t Transformer::WeightBytes(const Checkpoint& checkpoint, const kernels::Backend& backend,
                                  kernels::WeightFormat format) {
  const ModelWeights& weights = checkpoint.weights();
  uint64_t bytes = checkpoint.weight_bytes();
  // What is loaded is no longer needed as the checkpoint has it.
  const auto matrix = [&](const WeightView& view) {
    bytes += backend.WeightBytes(ToKernelDType(view.dtype), static_cast<int>(view.rows),
                                 static_cast<int>(view.cols), format);
    bytes -= view.size_bytes();
  };
  const auto joined = [&](std::span<const WeightView> views) {
    if (!SameType(views)) {
      for (const WeightView& view : views) matrix(view);
      return;
    }
    WeightView all = views[0];
    for (const WeightView& view : views.subspan(1)) all.rows += view.rows;
    matrix(all);
  };
  const WeightView& table = weights.embed_tokens;
  if (SharesEmbedding(weights, format)) {
    matrix(table);
  } else {
    bytes += backend.TableBytes(ToKernelDType(table.dtype), static_cast<int>(table.rows),
                                static_cast<int>(table.cols));
    matrix(weights.lm_head);
    if (!HasTiedHead(weights)) bytes -= table.size_bytes();  // else it was the head's
  }
  for (const LayerWeights& layer : weights.layers) {
    joined(QkvOf(layer));
    joined(GateUpOf(layer));
    matrix(layer.o_proj);
    matrix(layer.down_proj);
  }
  return bytes;
}

Transformer::Transformer(std::shared_ptr<const Checkpoint> checkpoint, kernels::Backend* backend,
                         const TransformerLimits& limits, kernels::WeightFormat format)
    : checkpoint_(std::move(checkpoint)),
      backend_(backend),
      limits_(limits),
      weight_report_{.format = format} {}

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Load(
    std::shared_ptr<const Checkpoint> checkpoint, kernels::Backend* backend,
    const TransformerLimits& limits, kernels::WeightFormat format) {
  assert(limits.max_rows >= 1 && limits.max_logit_rows >= 1 &&
         limits.max_logit_rows <= limits.max_rows);
  std::unique_ptr<Transformer> transformer(
      new Transformer(std::move(checkpoint), backend, limits, format));
  if (absl::Status status = transformer->LoadWeights(); !status.ok()) return status;
  if (absl::Status status = transformer->AllocateActivations(); !status.ok()) return status;
  return transformer;
}

absl::Status Transformer::Allocate(uint64_t floats, BufferPtr& buffer) {
  buffer = backend_->Allocate(floats);
  if (buffer) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "the backend ", backend_->Describe(), " cannot allocate ", floats * sizeof(float),
      " bytes of activations for ", limits_.max_rows, " rows in a step"));
}

absl::Status Transformer::LoadWeights() {
  const ModelConfig& config = checkpoint_->config();
  const ModelWeights& weights = checkpoint_->weights();
  inverse_frequencies_short_ = RopeInverseFrequencies(config, RopeRange::kShort);
  inverse_frequencies_long_ = RopeInverseFrequencies(config, RopeRange::kLong);

  const kernels::WeightFormat format = weight_report_.format;
  WeightLoader loader(backend_, format);
  std::string prefix;
  const auto matrix = [&](const char* name, const WeightView& view, WeightPtr& weight) {
    loader.Matrix(absl::StrCat(prefix, name), view, weight);
  };
  const auto joined = [&](const char* name, std::span<const WeightView> views, WeightPtr& weight) {
    loader.JoinedMatrix(absl::StrCat(prefix, name), views, weight);
  };
  const auto vector = [&](const WeightView& view, BufferPtr& buffer) {
    loader.Vector(view, buffer);
  };
  const bool shared = SharesEmbedding(weights, format);
  loader.Table(weights.embed_tokens, embed_tokens_, shared);
  if (!shared) {
    matrix("lm_head", weights.lm_head, lm_head_);
  } else if (loader.status().ok()) {
    loader.Count(*embed_tokens_);
  }
  vector(weights.final_norm, final_norm_);
  layers_.resize(weights.layers.size());
  for (size_t i = 0; i < layers_.size() && loader.status().ok(); ++i) {
    const LayerWeights& from = weights.layers[i];
    Layer& to = layers_[i];
    prefix = absl::StrCat("layers.", i, ".");
    vector(from.input_norm, to.input_norm);
    vector(from.post_attention_norm, to.post_attention_norm);
    vector(from.q_norm, to.q_norm);
    vector(from.k_norm, to.k_norm);
    const auto qkv = QkvOf(from);
    const WeightView qkv_bias[] = {from.q_bias, from.k_bias, from.v_bias};
    if (SameType(qkv)) {
      joined("qkv_proj", qkv, to.qkv);
      loader.JoinedVector(qkv_bias, to.qkv_bias);
    } else {
      matrix("q_proj", from.q_proj, to.q);
      matrix("k_proj", from.k_proj, to.k);
      matrix("v_proj", from.v_proj, to.v);
      vector(from.q_bias, to.q_bias);
      vector(from.k_bias, to.k_bias);
      vector(from.v_bias, to.v_bias);
    }
    matrix("o_proj", from.o_proj, to.o);
    vector(from.o_bias, to.o_bias);
    const auto gate_up = GateUpOf(from);
    const WeightView gate_up_bias[] = {from.gate_bias, from.up_bias};
    if (SameType(gate_up)) {
      joined("gate_up_proj", gate_up, to.gate_up);
      loader.JoinedVector(gate_up_bias, to.gate_up_bias);
    } else {
      matrix("gate_proj", from.gate_proj, to.gate);
      matrix("up_proj", from.up_proj, to.up);
      vector(from.gate_bias, to.gate_bias);
      vector(from.up_bias, to.up_bias);
    }
    matrix("down_proj", from.down_proj, to.down);
    vector(from.down_bias, to.down_bias);
  }
  weight_report_ = loader.report();
  return loader.status();
}

absl::Status Transformer::AllocateActivations() {
  const ModelConfig& config = checkpoint_->config();
  const auto rows = static_cast<uint64_t>(limits_.max_rows);
  absl::Status status;
  const auto allocate = [&](uint64_t floats, BufferPtr& buffer) {
    if (status.ok()) status = Allocate(floats, buffer);
  };
  const auto hidden = static_cast<uint64_t>(config.hidden_size);
  const auto intermediate = static_cast<uint64_t>(config.intermediate_size);
  allocate(rows * hidden, x_);
  allocate(rows * hidden, normed_);
  allocate(rows * hidden, selected_);
  allocate(rows * static_cast<uint64_t>(QkvWidth(config)), qkv_);
  allocate(rows * static_cast<uint64_t>(config.q_dim()), attention_);
  allocate(rows * 2 * intermediate, gate_up_);
  allocate(rows * intermediate, gated_);
  allocate(static_cast<uint64_t>(limits_.max_logit_rows) * static_cast<uint64_t>(config.vocab_size),
           logits_);
  if (!status.ok()) return status;

  q_ = qkv_->data();
  k_ = q_ + config.q_dim();
  v_ = k_ + config.kv_dim();
  qkv_stride_ = static_cast<int>(QkvWidth(config));
  positions_.reserve(rows);
  selected_rows_.reserve(rows);
  sequence_rows_.reserve(rows);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<kernels::KvCache>> Transformer::CreateKvCache(
    int pages, int page_size, kernels::DType dtype) const {
  std::unique_ptr<kernels::KvCache> cache =
      backend_->CreateKvCache({.layers = config().num_layers,
                               .pages = pages,
                               .page_size = page_size,
                               .kv_heads = config().num_kv_heads,
                               .head_dim = config().head_dim,
                               .dtype = dtype});
  if (cache) return cache;
  return absl::ResourceExhaustedError(absl::StrCat("the backend ", backend_->Describe(),
                                                   " cannot hold a KV cache of ", pages,
                                                   " pages of ", page_size, " positions"));
}

void Transformer::Rotate(std::span<const StepSequence> sequences) {
  const ModelConfig& config = checkpoint_->config();
  size_t first_row = 0;
  for (size_t begin = 0; begin < sequences.size();) {
    // Neighbours with the same frequencies go together.
    size_t end = begin;
    size_t rows = 0;
    while (end < sequences.size() && sequences[end].rope_range == sequences[begin].rope_range) {
      rows += static_cast<size_t>(sequences[end].row_count);
      ++end;
    }
    // Keys stand right behind the queries of their row.
    const kernels::RopeShape shape{
        .heads = config.num_heads + config.num_kv_heads,
        .head_dim = config.head_dim,
        .inverse_frequencies = sequences[begin].rope_range == RopeRange::kLong
                                   ? inverse_frequencies_long_
                                   : inverse_frequencies_short_,
        .attention_factor = config.rope_scaling.attention_scaling};
    const auto positions = std::span<const int32_t>(positions_).subspan(first_row, rows);
    backend_->Rope(shape, positions, qkv_stride_,
                   q_ + first_row * static_cast<size_t>(qkv_stride_));
    first_row += rows;
    begin = end;
  }
}

void Transformer::ProjectQkv(const Layer& layer, int rows,
                             std::span<const StepSequence> sequences) {
  const ModelConfig& config = checkpoint_->config();
  const float* in = normed_->data();
  if (layer.qkv) {
    backend_->MatMul(*layer.qkv, DataOrNull(layer.qkv_bias), in, rows, false, q_, qkv_stride_);
  } else {
    backend_->MatMul(*layer.q, DataOrNull(layer.q_bias), in, rows, false, q_, qkv_stride_);
    backend_->MatMul(*layer.k, DataOrNull(layer.k_bias), in, rows, false, k_, qkv_stride_);
    backend_->MatMul(*layer.v, DataOrNull(layer.v_bias), in, rows, false, v_, qkv_stride_);
  }
  if (config.qk_norm) {
    backend_->RmsNormHeads(layer.q_norm->data(), rows, config.num_heads, config.head_dim,
                           qkv_stride_, config.rms_norm_eps, q_);
    backend_->RmsNormHeads(layer.k_norm->data(), rows, config.num_kv_heads, config.head_dim,
                           qkv_stride_, config.rms_norm_eps, k_);
  }
  Rotate(sequences);
}

void Transformer::FinishLayer(const Layer& layer, int rows, const float* attention, float* x) {
  const ModelConfig& config = checkpoint_->config();
  const int width = config.intermediate_size;
  backend_->MatMul(*layer.o, DataOrNull(layer.o_bias), attention, rows, true, x,
                   config.hidden_size);
  backend_->RmsNorm(x, layer.post_attention_norm->data(), rows, config.hidden_size,
                    config.rms_norm_eps, normed_->data());
  float* gate_up = gate_up_->data();
  if (layer.gate_up) {
    backend_->MatMul(*layer.gate_up, DataOrNull(layer.gate_up_bias), normed_->data(), rows, false,
                     gate_up, 2 * width);
  } else {
    backend_->MatMul(*layer.gate, DataOrNull(layer.gate_bias), normed_->data(), rows, false,
                     gate_up, 2 * width);
    backend_->MatMul(*layer.up, DataOrNull(layer.up_bias), normed_->data(), rows, false,
                     gate_up + width, 2 * width);
  }
  backend_->SiluMul(gate_up, rows, width, gated_->data());
  backend_->MatMul(*layer.down, DataOrNull(layer.down_bias), gated_->data(), rows, true, x,
                   config.hidden_size);
}

void Transformer::Forward(const StepInput& step, kernels::KvCache& cache, std::span<float> logits,
                          std::span<float> hidden) {
  const ModelConfig& config = checkpoint_->config();
  const auto hidden_size = static_cast<size_t>(config.hidden_size);
  const int rows = static_cast<int>(step.ids.size());
  assert(rows >= 1 && rows <= limits_.max_rows);
  assert(static_cast<int>(step.logit_rows.size()) <= limits_.max_logit_rows);
  assert(logits.empty() ||
         logits.size() == step.logit_rows.size() * static_cast<size_t>(config.vocab_size));
  assert(hidden.size() == step.hidden_rows.size() * hidden_size);

  positions_.clear();
  sequence_rows_.clear();
  for (const StepSequence& sequence : step.sequences) {
    sequence_rows_.push_back({.first_row = static_cast<int>(positions_.size()),
                              .row_count = sequence.row_count,
                              .first_position = sequence.first_position,
                              .pages = sequence.pages,
                              .ancestors = sequence.ancestors});
    for (int i = 0; i < sequence.row_count; ++i) {
      positions_.push_back(kernels::PositionOf(sequence_rows_.back(), i));
    }
  }
  assert(static_cast<int>(positions_.size()) == rows);
  selected_rows_.assign(step.logit_rows.begin(), step.logit_rows.end());
  selected_rows_.insert(selected_rows_.end(), step.hidden_rows.begin(), step.hidden_rows.end());
  const int selected = static_cast<int>(selected_rows_.size());
  assert(selected <= rows);

  backend_->BeginStep();
  backend_->Embed(*embed_tokens_, step.ids, x_->data());
  for (int i = 0; i < config.num_layers; ++i) {
    const Layer& layer = layers_[static_cast<size_t>(i)];
    const bool last = i + 1 == config.num_layers;
    backend_->RmsNorm(x_->data(), layer.input_norm->data(), rows, config.hidden_size,
                      config.rms_norm_eps, normed_->data());
    ProjectQkv(layer, rows, step.sequences);
    backend_->WriteKv(cache, i, sequence_rows_, k_, v_, qkv_stride_);
    if (last && selected == 0) break;
    backend_->Attention({.heads = config.num_heads,
                         .kv_heads = config.num_kv_heads,
                         .head_dim = config.head_dim,
                         .scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim)),
                         .sliding_window = config.layer_sliding_window[static_cast<size_t>(i)]},
                        cache, i, sequence_rows_, q_, qkv_stride_, attention_->data());
    if (last) {
      // qkv_ is free again and has room for the rows of attention_.
      backend_->GatherRows(x_->data(), selected_rows_, config.hidden_size, selected_->data());
      backend_->GatherRows(attention_->data(), selected_rows_, config.q_dim(), qkv_->data());
      FinishLayer(layer, selected, qkv_->data(), selected_->data());
    } else {
      FinishLayer(layer, rows, attention_->data(), x_->data());
    }
  }
  if (selected > 0) {
    backend_->RmsNorm(selected_->data(), final_norm_->data(), selected, config.hidden_size,
                      config.rms_norm_eps, selected_->data());
  }
  const int logit_rows = static_cast<int>(step.logit_rows.size());
  logit_rows_ = logit_rows;
  if (logit_rows > 0) {
    backend_->MatMul(lm_head_ ? *lm_head_ : *embed_tokens_, nullptr, selected_->data(), logit_rows,
                     false, logits_->data(), config.vocab_size);
  }
  backend_->EndStep();
  if (!logits.empty()) backend_->Download(logits_->data(), logits);
  if (!hidden.empty()) {
    backend_->Download(selected_->data() + static_cast<size_t>(logit_rows) * hidden_size, hidden);
  }
  backend_->Synchronize();
}

void Transformer::EditLogits(std::span<const kernels::LogitEdit> edits) {
  backend_->EditLogits(edits, config().vocab_size, logits_->data());
}

void Transformer::DrawLogits(std::span<const kernels::LogitDraw> draws, DrawnLogits& drawn) {
  drawn.ids.resize(draws.size());
  drawn.logits.resize(draws.size());
  backend_->Draw(logits_->data(), config().vocab_size, draws, drawn.ids, drawn.logits);
}

void Transformer::RankLogits(int count, LargestLogits& largest) {
  const auto rows = static_cast<size_t>(logit_rows_);
  largest.ids.resize(rows * static_cast<size_t>(count));
  largest.logits.resize(rows * static_cast<size_t>(count));
  largest.log_sum_exp.resize(rows);
  backend_->TopK(logits_->data(), logit_rows_, config().vocab_size, count, largest.ids,
                 largest.logits, largest.log_sum_exp);
}

void Transformer::CopyLogits(int index, std::span<float> logits) {
  assert(index >= 0 && index < logit_rows_);
  backend_->Download(
      logits_->data() + static_cast<size_t>(index) * static_cast<size_t>(config().vocab_size),
      logits);
}

void Transformer::CopyLogitHidden(int index, std::span<float> hidden) {
  assert(index >= 0 && index < logit_rows_);
  // Rows with logits stand first.
  backend_->Download(
      selected_->data() + static_cast<size_t>(index) * static_cast<size_t>(config().hidden_size),
      hidden);
}

void Transformer::KeepPath(kernels::KvCache& cache, std::span<const int32_t> pages,
                           int first_position, std::span<const int32_t> path) {
  backend_->MoveKv(cache, pages, first_position, path);
}

}  // namespace octogate::workers
