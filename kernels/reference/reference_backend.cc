#include "kernels/reference/reference_backend.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "kernels/elementary.h"
#include "kernels/float16.h"
#include "kernels/float8.h"
#include "kernels/host_kv_cache.h"
#include "kernels/host_memory.h"
#include "kernels/quantize.h"
#include "kernels/reduction_order.h"
#include "kernels/reference/quantized_matmul.h"
#include "kernels/rotary.h"

namespace octogate::kernels {
namespace {

size_t Offset(int row, int stride) {
  return static_cast<size_t>(row) * static_cast<size_t>(stride);
}

// Element `index` of a row of `dtype`, widened. The row need not be aligned.
float WidenElement(const uint8_t* row, DType dtype, int index) {
  const uint8_t* from = row + static_cast<size_t>(index) * SizeOf(dtype);
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
  if (dtype == DType::kF8E4M3) return Float8ToFloat(*from);
  if (dtype == DType::kI8) return static_cast<float>(static_cast<int8_t>(*from));
  uint16_t value;
  std::memcpy(&value, from, sizeof(value));
  return dtype == DType::kF16 ? Float16ToFloat(value) : BFloat16ToFloat(value);
}

// The keys and values of one kv head that row `row` of a sequence sees, by
// position.
class HeadView {
 public:
  HeadView(const HostKvCache& cache, int layer, int kv_head, const SequenceRows& sequence, int row)
      : cache_(cache), layer_(layer), kv_head_(kv_head), sequence_(sequence) {
    if (sequence.ancestors.empty()) return;
    ForAncestors(sequence.ancestors[static_cast<size_t>(row)],
                 [&](int n, int ancestor) { path_[static_cast<size_t>(n)] = ancestor; });
  }

  float Key(int position, int d) const {
    const int slot = Slot(position);
    return Element(cache_.keys(Page(slot), layer_, kv_head_), slot, d);
  }
  float Value(int position, int d) const {
    const int slot = Slot(position);
    return Element(cache_.values(Page(slot), layer_, kv_head_), slot, d);
  }
  // What a key or value is to be multiplied with.
  float KeyScale(int position) const {
    const int slot = Slot(position);
    return Scale(cache_.keys(Page(slot), layer_, kv_head_), slot);
  }
  float ValueScale(int position) const {
    const int slot = Slot(position);
    return Scale(cache_.values(Page(slot), layer_, kv_head_), slot);
  }

 private:
  int Slot(int position) const {
    const int n = position - sequence_.first_position;
    if (n < 0 || sequence_.ancestors.empty()) return position;
    return sequence_.first_position + path_[static_cast<size_t>(n)];
  }
  int Page(int slot) const {
    return sequence_.pages[static_cast<size_t>(slot / cache_.shape().page_size)];
  }
  float Element(const uint8_t* run, int slot, int d) const {
    const size_t in_page = static_cast<size_t>(slot % cache_.shape().page_size);
    return WidenElement(run + in_page * cache_.position_bytes(), cache_.shape().dtype, d);
  }

  float Scale(const uint8_t* run, int slot) const {
    return cache_.scaled() ? cache_.Scale(run, slot % cache_.shape().page_size) : 1.0f;
  }

  const HostKvCache& cache_;
  int layer_;
  int kv_head_;
  const SequenceRows& sequence_;
  std::array<int, kMaxTreeRows> path_{};
};

// Softmax over part of the positions: not yet divided by `sum`, relative to
// `max`.
struct Partial {
  float max;
  float sum;
  std::array<float, kMaxHeadDim> out;
};

void AttendBlock(const AttentionShape& shape, const HeadView& head, const float* q, int begin,
                 int end, Partial* partial) {
  std::array<float, kAttentionBlock> scores;
  partial->max = -std::numeric_limits<float>::infinity();
  for (int j = begin; j < end; ++j) {
    const float dot =
        Dot([&](int d) { return q[d]; }, [&](int d) { return head.Key(j, d); }, shape.head_dim);
    const float score = dot * head.KeyScale(j) * shape.scale;
    scores[static_cast<size_t>(j - begin)] = score;
    partial->max = Maximum(score, partial->max);
  }
  float lanes[kLanes] = {};
  std::fill_n(partial->out.begin(), shape.head_dim, 0.0f);
  for (int j = begin; j < end; ++j) {
    const float p = Exp(scores[static_cast<size_t>(j - begin)] - partial->max);
    lanes[j % kLanes] += p;
    const float weight = p * head.ValueScale(j);
    for (int d = 0; d < shape.head_dim; ++d) {
      partial->out[d] = std::fma(weight, head.Value(j, d), partial->out[d]);
    }
  }
  partial->sum = SumLanes(lanes);
}

// The order of TopK.
bool RanksBefore(const float* row, int a, int b) {
  if (std::isnan(row[a]) != std::isnan(row[b])) return std::isnan(row[b]);
  return row[a] > row[b] || (!(row[a] < row[b]) && a < b);
}

class ReferenceBackend final : public Backend {
 public:
  std::string Describe() const override { return "reference"; }

  std::unique_ptr<Buffer> Allocate(size_t floats) override { return MakeHostBuffer(floats); }

  std::unique_ptr<Weight> LoadWeight(const HostMatrix& matrix, WeightFormat format) override {
    if (IsQuantized(format)) return QuantizedWeight::Make(matrix, format);
    if (format == WeightFormat::kBf16 && matrix.dtype != DType::kBF16) {
      return HostWeight::MakeBf16(matrix);
    }
    auto weight = HostWeight::Copy(matrix);
    if (weight != nullptr) weight->format = format;
    return weight;
  }

  size_t WeightBytes(DType stored, int rows, int cols, WeightFormat format) const override {
    return LoadedWeightBytes(stored, rows, cols, format);
  }

  std::unique_ptr<KvCache> CreateKvCache(const KvCacheShape& shape) override {
    return HostKvCache::Make(shape);
  }

  void Upload(std::span<const float> from, float* to) override {
    std::copy(from.begin(), from.end(), to);
  }
  void Download(const float* from, std::span<float> to) override {
    std::copy_n(from, to.size(), to.begin());
  }
  void Synchronize() override {}

  void Embed(const Weight& table, std::span<const int32_t> ids, float* out) override {
    if (IsQuantized(table.format)) {
      for (const int32_t id : ids) {
        assert(id >= 0 && id < table.rows);
        Dequantize(static_cast<const QuantizedWeight&>(table).matrix(), id, out);
        out += table.cols;
      }
      return;
    }
    const auto& weight = static_cast<const HostWeight&>(table);
    for (const int32_t id : ids) {
      assert(id >= 0 && id < weight.rows);
      for (int c = 0; c < weight.cols; ++c)
        *out++ = WidenElement(weight.row(id), weight.dtype(), c);
    }
  }

  void RmsNorm(const float* x, const float* weight, int rows, int columns, float epsilon,
               float* out) override {
    for (int r = 0; r < rows; ++r) {
      const float* from = x + Offset(r, columns);
      const auto element = [&](int c) { return from[c]; };
      const float scale = InverseRms(Dot(element, element, columns), columns, epsilon);
      for (int c = 0; c < columns; ++c) out[Offset(r, columns) + c] = from[c] * scale * weight[c];
    }
  }

  void RmsNormHeads(const float* weight, int rows, int heads, int head_dim, int stride,
                    float epsilon, float* x) override {
    for (int r = 0; r < rows; ++r) {
      float* row = x + Offset(r, stride);
      RmsNorm(row, weight, heads, head_dim, epsilon, row);
    }
  }

  void LayerNorm(const float* x, const float* weight, const float* bias, int rows, int columns,
                 float epsilon, float* out) override {
    for (int r = 0; r < rows; ++r) {
      const float* from = x + Offset(r, columns);
      const float sum = Sum([&](int c) { return from[c]; }, columns);
      const float mean = sum / static_cast<float>(columns);
      const auto centred = [&](int c) { return from[c] - mean; };
      const float scale = InverseRms(Dot(centred, centred, columns), columns, epsilon);
      for (int c = 0; c < columns; ++c) {
        const float y = centred(c) * scale * weight[c];
        out[Offset(r, columns) + c] = bias == nullptr ? y : y + bias[c];
      }
    }
  }

  void MatMul(const Weight& weight, const float* bias, const float* x, int rows, bool accumulate,
              float* out, int out_stride) override {
    if (IsQuantized(weight.format)) {
      return QuantizedMatMul(static_cast<const QuantizedWeight&>(weight).matrix(), bias, x, rows,
                             accumulate, out, out_stride);
    }
    const auto& w = static_cast<const HostWeight&>(weight);
    for (int r = 0; r < rows; ++r) {
      const float* in = x + Offset(r, w.cols);
      for (int n = 0; n < w.rows; ++n) {
        const float dot = Dot([&](int k) { return in[k]; },
                              [&](int k) { return WidenElement(w.row(n), w.dtype(), k); }, w.cols);
        float& y = out[Offset(r, out_stride) + n];
        y = FinishDot(dot, bias, n, accumulate, y);
      }
    }
  }

  void Rope(const RopeShape& shape, std::span<const int32_t> positions, int stride,
            float* x) override {
    const int frequencies = static_cast<int>(shape.inverse_frequencies.size());
    assert(2 * frequencies <= shape.head_dim);
    for (size_t r = 0; r < positions.size(); ++r) {
      for (int i = 0; i < frequencies; ++i) {
        const float angle = static_cast<float>(positions[r]) * shape.inverse_frequencies[i];
        auto [sine, cosine] = SinCos(angle);
        sine *= shape.attention_factor;
        cosine *= shape.attention_factor;
        for (int h = 0; h < shape.heads; ++h) {
          float* first = x + r * static_cast<size_t>(stride) + Offset(h, shape.head_dim) + i;
          float* second = first + frequencies;
          const float a = *first;
          const float b = *second;
          *first = a * cosine - b * sine;
          *second = b * cosine + a * sine;
        }
      }
    }
  }

  void WriteKv(KvCache& cache, int layer, std::span<const SequenceRows> sequences,
               const float* keys, const float* values, int stride) override {
    for (const SequenceRows& sequence : sequences) {
      WriteHostKv(static_cast<HostKvCache&>(cache), layer, sequence, keys, values, stride);
    }
  }

  void MoveKv(KvCache& cache, std::span<const int32_t> pages, int first_position,
              std::span<const int32_t> rows) override {
    MoveHostKv(static_cast<HostKvCache&>(cache), pages, first_position, rows);
  }

  void DownloadPage(const KvCache& cache, int32_t page, std::span<std::byte> to) override {
    DownloadHostPage(static_cast<const HostKvCache&>(cache), page, to);
  }
  void UploadPage(std::span<const std::byte> from, KvCache& cache, int32_t page) override {
    UploadHostPage(from, static_cast<HostKvCache&>(cache), page);
  }
  std::unique_ptr<HostBlock> AllocateHostBlock(size_t bytes) override {
    return MakeHostBlock(bytes);
  }

  void Attention(const AttentionShape& shape, const KvCache& cache, int layer,
                 std::span<const SequenceRows> sequences, const float* q, int q_stride,
                 float* out) override {
    const auto& host_cache = static_cast<const HostKvCache&>(cache);
    assert(shape.head_dim <= kMaxHeadDim);
    Partial total;
    Partial block;
    for (const SequenceRows& sequence : sequences) {
      for (int i = 0; i < sequence.row_count; ++i) {
        for (int h = 0; h < shape.heads; ++h) {
          const int row = sequence.first_row + i;
          const HeadView head(host_cache, layer, h / (shape.heads / shape.kv_heads), sequence, i);
          AttendRow(shape, head, q + Offset(row, q_stride) + Offset(h, shape.head_dim),
                    LastSeen(sequence, i), &total, &block);
          float* to = out + Offset(row, shape.heads * shape.head_dim) + Offset(h, shape.head_dim);
          for (int d = 0; d < shape.head_dim; ++d) to[d] = total.out[d] / total.sum;
        }
      }
    }
  }

  void SiluMul(const float* gate_up, int rows, int columns, float* out) override {
    GateMul(gate_up, rows, columns, Silu, out);
  }

  void GeluMul(const float* gate_up, int rows, int columns, bool tanh_approximation,
               float* out) override {
    GateMul(gate_up, rows, columns, tanh_approximation ? GeluTanh : GeluErf, out);
  }

  void GatherRows(const float* x, std::span<const int32_t> rows, int columns, float* out) override {
    for (const int32_t row : rows) {
      out = std::copy_n(x + Offset(row, columns), columns, out);
    }
  }

  void EditLogits(std::span<const LogitEdit> edits, int columns, float* logits) override {
    EditHostLogits(edits, columns, logits);
  }

  void TopK(const float* logits, int rows, int columns, int k, std::span<int32_t> ids,
            std::span<float> values, std::span<float> log_sum_exp) override {
    assert(k >= 0 && k <= columns);
    for (int r = 0; r < rows; ++r) {
      const float* row = logits + Offset(r, columns);
      for (int i = 0; i < k; ++i) {
        // The largest of those that come after what was found last.
        int best = -1;
        for (int c = 0; c < columns; ++c) {
          if (i > 0 && !RanksBefore(row, ids[Offset(r, k) + i - 1], c)) continue;
          if (best < 0 || RanksBefore(row, c, best)) best = c;
        }
        ids[Offset(r, k) + i] = best;
        values[Offset(r, k) + i] = row[best];
      }
      float max = -std::numeric_limits<float>::infinity();
      for (int c = 0; c < columns; ++c) max = Maximum(row[c], max);
      float sum = 0;
      for (int begin = 0; begin < columns; begin += kLogSumExpBlock) {
        sum += Sum([&](int c) { return Exp(row[begin + c] - max); },
                   std::min(columns - begin, kLogSumExpBlock));
      }
      log_sum_exp[static_cast<size_t>(r)] = LogSumExp(max, sum);
    }
  }

  void Draw(const float* logits, int columns, std::span<const LogitDraw> draws,
            std::span<int32_t> ids, std::span<float> values) override {
    for (size_t d = 0; d < draws.size(); ++d) {
      const float* row = logits + Offset(draws[d].row, columns);
      int best = 0;
      for (int c = 1; c < columns; ++c) {
        if (RanksBefore(row, c, best)) best = c;
      }
      std::vector<float> weights;
      for (int c = 0; c < columns; ++c) {
        weights.push_back(Exp((row[c] - row[best]) * draws[d].scale));
      }
      const auto count_of = [&](int b) { return std::min(kDrawBlock, columns - b * kDrawBlock); };
      std::vector<float> sums;
      for (int b = 0; b * kDrawBlock < columns; ++b) {
        const float* block = weights.data() + b * kDrawBlock;
        sums.push_back(Sum([&](int i) { return block[i]; }, count_of(b)));
      }
      const DrawnBlock drawn =
          DrawBlock(sums.data(), static_cast<int>(sums.size()), draws[d].uniform);
      ids[d] = -1;
      values[d] = 0;
      if (drawn.block < 0) continue;
      const int first = drawn.block * kDrawBlock;
      const int i = DrawInBlock(weights.data() + first, count_of(drawn.block), drawn.left);
      ids[d] = i < 0 ? best : first + i;
      values[d] = row[ids[d]];
    }
  }

 private:
  static void AttendRow(const AttentionShape& shape, const HeadView& head, const float* q, int last,
                        Partial* total, Partial* block) {
    const int first = FirstSeen(last, shape.sliding_window);
    const int first_block = first / kAttentionBlock;
    for (int b = first_block; b * kAttentionBlock <= last; ++b) {
      const int begin = std::max(first, b * kAttentionBlock);
      const int end = std::min(last + 1, (b + 1) * kAttentionBlock);
      AttendBlock(shape, head, q, begin, end, b == first_block ? total : block);
      if (b == first_block) continue;
      const MergeFactors merge = Merge(total->max, block->max);
      total->max = merge.max;
      total->sum = std::fma(block->sum, merge.b, total->sum * merge.a);
      for (int d = 0; d < shape.head_dim; ++d) {
        total->out[d] = std::fma(block->out[d], merge.b, total->out[d] * merge.a);
      }
    }
  }

  static void GateMul(const float* gate_up, int rows, int columns, float (*activation)(float),
                      float* out) {
    for (int r = 0; r < rows; ++r) {
      const float* gate = gate_up + 2 * Offset(r, columns);
      const float* up = gate + columns;
      for (int c = 0; c < columns; ++c) out[Offset(r, columns) + c] = activation(gate[c]) * up[c];
    }
  }
};

}  // namespace

std::unique_ptr<Backend> MakeReferenceBackend() {
  return std::unique_ptr<Backend>(new (std::nothrow) ReferenceBackend);
}

}  // namespace octogate::kernels
