#include "workers/encoder/encoder_model.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/float16.h"

namespace octogate::workers {
namespace {

// Positions in a page of keys and values.
constexpr int kPageSize = 16;

int PagesOf(int rows) { return (rows + kPageSize - 1) / kPageSize; }

// Pages that the texts of a pass can need together.
int MaxPages(const EncoderLimits& limits) { return limits.max_rows / kPageSize + limits.max_texts; }

// Row `row` of a matrix, widened; calls add(column, value).
template <typename Add>
void ForRow(const WeightView& view, int64_t row, const Add& add) {
  const std::byte* from = view.data + static_cast<size_t>(row) * view.row_bytes();
  for (int64_t c = 0; c < view.cols; ++c) {
    if (view.dtype == DType::kF32) {
      float value;
      std::memcpy(&value, from + c * static_cast<int64_t>(sizeof(value)), sizeof(value));
      add(static_cast<size_t>(c), value);
    } else {
      uint16_t value;
      std::memcpy(&value, from + c * static_cast<int64_t>(sizeof(value)), sizeof(value));
      add(static_cast<size_t>(c), view.dtype == DType::kF16 ? kernels::Float16ToFloat(value)
                                                            : kernels::BFloat16ToFloat(value));
    }
  }
}

}  // namespace

uint64_t EncoderModel::WeightBytes(const EncoderCheckpoint& checkpoint,
                                   const kernels::Backend& backend, kernels::WeightFormat format) {
  const EncoderConfig& config = checkpoint.config();
  uint64_t bytes =
      checkpoint.weight_bytes() + sizeof(float) * static_cast<uint64_t>(config.hidden_size) *
                                      static_cast<uint64_t>(config.max_position_embeddings);
  for (const EncoderLayerWeights& layer : checkpoint.weights().layers) {
    for (const WeightAndBias* matrix : {&layer.query, &layer.key, &layer.value,
                                        &layer.attention_output, &layer.up, &layer.down}) {
      const WeightView& view = matrix->weight;
      bytes += backend.WeightBytes(ToKernelDType(view.dtype), static_cast<int>(view.rows),
                                   static_cast<int>(view.cols), format);
      bytes -= view.size_bytes();  // no longer needed once it is loaded
    }
  }
  return bytes;
}

uint64_t EncoderModel::ActivationBytes(const EncoderConfig& config, const EncoderLimits& limits) {
  const auto hidden = static_cast<uint64_t>(config.hidden_size);
  const auto rows = static_cast<uint64_t>(limits.max_rows);
  const uint64_t per_row = 6 * hidden + 3 * static_cast<uint64_t>(config.intermediate_size);
  const uint64_t cached = static_cast<uint64_t>(MaxPages(limits)) * kPageSize * 2 * hidden;
  return sizeof(float) * (rows * per_row + cached);
}

EncoderModel::EncoderModel(std::shared_ptr<const EncoderCheckpoint> checkpoint,
                           kernels::Backend* backend, const EncoderLimits& limits,
                           kernels::WeightFormat format)
    : checkpoint_(std::move(checkpoint)),
      backend_(backend),
      limits_(limits),
      weight_report_{.format = format} {}

absl::StatusOr<std::unique_ptr<EncoderModel>> EncoderModel::Load(
    std::shared_ptr<const EncoderCheckpoint> checkpoint, kernels::Backend* backend,
    const EncoderLimits& limits, kernels::WeightFormat format) {
  assert(limits.max_texts >= 1 && limits.max_rows >= limits.max_texts);
  std::unique_ptr<EncoderModel> model(
      new EncoderModel(std::move(checkpoint), backend, limits, format));
  OCTOGATE_RETURN_IF_ERROR(model->LoadWeights());
  OCTOGATE_RETURN_IF_ERROR(model->AllocateActivations());
  return model;
}

absl::Status EncoderModel::LoadWeights() {
  const EncoderConfig& config = checkpoint_->config();
  const EncoderWeights& weights = checkpoint_->weights();
  WeightLoader loader(backend_, weight_report_.format);
  const auto norm = [&](const WeightAndBias& from, Norm& to) {
    loader.Vector(from.weight, to.weight);
    loader.Vector(from.bias, to.bias);
  };
  norm(weights.embedding_norm, embedding_norm_);
  layers_.resize(weights.layers.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    const EncoderLayerWeights& from = weights.layers[i];
    Layer& to = layers_[i];
    const auto linear = [&](const char* name, const WeightAndBias& source, Linear& target) {
      loader.Matrix(absl::StrCat("layers.", i, ".", name), source.weight, target.weight);
      loader.Vector(source.bias, target.bias);
    };
    linear("query", from.query, to.query);
    linear("key", from.key, to.key);
    linear("value", from.value, to.value);
    linear("attention_output", from.attention_output, to.attention_output);
    linear("up", from.up, to.up);
    linear("down", from.down, to.down);
    norm(from.attention_norm, to.attention_norm);
    norm(from.output_norm, to.output_norm);
  }
  weight_report_ = loader.report();
  OCTOGATE_RETURN_IF_ERROR(loader.status());

  const auto hidden = static_cast<size_t>(config.hidden_size);
  position_table_.resize(static_cast<size_t>(config.max_position_embeddings) * hidden);
  for (int p = 0; p < config.max_position_embeddings; ++p) {
    float* row = position_table_.data() + static_cast<size_t>(p) * hidden;
    ForRow(weights.types, 0, [&](size_t c, float value) { row[c] = value; });
    ForRow(weights.positions, p, [&](size_t c, float value) { row[c] += value; });
  }
  return absl::OkStatus();
}

absl::Status EncoderModel::AllocateActivations() {
  const EncoderConfig& config = checkpoint_->config();
  const auto rows = static_cast<size_t>(limits_.max_rows);
  const auto hidden = static_cast<size_t>(config.hidden_size);
  const auto intermediate = static_cast<size_t>(config.intermediate_size);
  x_ = backend_->Allocate(rows * hidden);
  qkv_ = backend_->Allocate(rows * 3 * hidden);
  attention_ = backend_->Allocate(rows * hidden);
  gate_ones_ = backend_->Allocate(rows * 2 * intermediate);
  gelu_ = backend_->Allocate(rows * intermediate);
  cache_ = backend_->CreateKvCache({.layers = 1,
                                    .pages = MaxPages(limits_),
                                    .page_size = kPageSize,
                                    .kv_heads = config.num_heads,
                                    .head_dim = config.head_dim,
                                    .dtype = kernels::DType::kF32});
  if (!x_ || !qkv_ || !attention_ || !gate_ones_ || !gelu_ || !cache_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the backend ", backend_->Describe(), " cannot allocate ", ActivationBytes(config, limits_),
        " bytes of activations for ", limits_.max_rows, " rows"));
  }
  const std::vector<float> ones(rows * 2 * intermediate, 1.0f);
  backend_->Upload(ones, gate_ones_->data());

  embedded_.reserve(rows * hidden);
  pages_.resize(static_cast<size_t>(MaxPages(limits_)));
  std::iota(pages_.begin(), pages_.end(), 0);
  sequences_.reserve(static_cast<size_t>(limits_.max_texts));
  return absl::OkStatus();
}

void EncoderModel::Embed(std::span<const int32_t> ids, std::span<const int> lengths) {
  const WeightView& words = checkpoint_->weights().words;
  const auto hidden = static_cast<size_t>(words.cols);
  embedded_.resize(ids.size() * hidden);
  size_t row = 0;
  for (const int length : lengths) {
    for (int p = 0; p < length; ++p, ++row) {
      const float* position = position_table_.data() + static_cast<size_t>(p) * hidden;
      float* to = embedded_.data() + row * hidden;
      ForRow(words, ids[row], [&](size_t c, float value) { to[c] = value + position[c]; });
    }
  }
  backend_->Upload(embedded_, x_->data());
}

void EncoderModel::LocateRows(std::span<const int> lengths) {
  sequences_.clear();
  int first_row = 0;
  size_t first_page = 0;
  for (const int length : lengths) {
    const auto pages = static_cast<size_t>(PagesOf(length));
    sequences_.push_back({.first_row = first_row,
                          .row_count = length,
                          .pages = std::span<const int32_t>(pages_).subspan(first_page, pages),
                          .bidirectional = true});
    first_row += length;
    first_page += pages;
  }
}

void EncoderModel::Multiply(const Linear& linear, const float* x, int rows, bool accumulate,
                            float* out, int out_stride) {
  backend_->MatMul(*linear.weight, linear.bias->data(), x, rows, accumulate, out, out_stride);
}

void EncoderModel::Normalize(const Norm& norm, int rows) {
  backend_->LayerNorm(x_->data(), norm.weight->data(), norm.bias->data(), rows,
                      config().hidden_size, config().layer_norm_eps, x_->data());
}

void EncoderModel::Forward(std::span<const int32_t> ids, std::span<const int> lengths,
                           std::span<float> hidden) {
  const EncoderConfig& config = checkpoint_->config();
  const int rows = static_cast<int>(ids.size());
  const int width = config.hidden_size;
  const int wide = config.intermediate_size;
  assert(rows >= 1 && rows <= limits_.max_rows);
  assert(static_cast<int>(lengths.size()) <= limits_.max_texts);
  assert(std::accumulate(lengths.begin(), lengths.end(), 0) == rows);
  assert(*std::max_element(lengths.begin(), lengths.end()) <= config.max_position_embeddings);
  assert(hidden.size() == ids.size() * static_cast<size_t>(width));

  LocateRows(lengths);
  Embed(ids, lengths);
  Normalize(embedding_norm_, rows);
  float* x = x_->data();
  float* q = qkv_->data();
  const kernels::AttentionShape shape{
      .heads = config.num_heads,
      .kv_heads = config.num_heads,
      .head_dim = config.head_dim,
      .scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim))};
  for (const Layer& layer : layers_) {
    Multiply(layer.query, x, rows, false, q, 3 * width);
    Multiply(layer.key, x, rows, false, q + width, 3 * width);
    Multiply(layer.value, x, rows, false, q + 2 * width, 3 * width);
    backend_->WriteKv(*cache_, 0, sequences_, q + width, q + 2 * width, 3 * width);
    backend_->Attention(shape, *cache_, 0, sequences_, q, 3 * width, attention_->data());
    Multiply(layer.attention_output, attention_->data(), rows, true, x, width);
    Normalize(layer.attention_norm, rows);
    Multiply(layer.up, x, rows, false, gate_ones_->data(), 2 * wide);
    backend_->GeluMul(gate_ones_->data(), rows, wide, config.tanh_gelu, gelu_->data());
    Multiply(layer.down, gelu_->data(), rows, true, x, width);
    Normalize(layer.output_norm, rows);
  }
  backend_->Download(x, hidden);
  backend_->Synchronize();
}

void PoolRows(Pooling pooling, std::span<const float> hidden, int columns, std::span<float> out) {
  const auto width = static_cast<size_t>(columns);
  assert(out.size() == width && !hidden.empty() && hidden.size() % width == 0);
  if (pooling == Pooling::kCls) {
    std::copy_n(hidden.begin(), width, out.begin());
    return;
  }
  const size_t rows = hidden.size() / width;
  for (size_t c = 0; c < width; ++c) {
    double sum = 0;
    for (size_t r = 0; r < rows; ++r) sum += double{hidden[r * width + c]};
    out[c] = static_cast<float>(sum / static_cast<double>(rows));
  }
}

}  // namespace octogate::workers
