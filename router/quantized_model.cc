#include "router/quantized_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace octogate::router {
namespace {

using Block = QuantizedModel::Block;
constexpr size_t kBlock = QuantizedModel::kBlock;
constexpr float kMaxWeight = 127;
// This many weights of 8 bits cannot overflow a sum of 16.
constexpr ptrdiff_t kMaxPartial = 32767 / 127;

// The weights and sums of a register.
template <size_t kLanes>
struct Lanes;
template <>
struct Lanes<16> {
  using Bytes = int8_t __attribute__((vector_size(16)));
  using Sums = int16_t __attribute__((vector_size(32)));
};
template <>
struct Lanes<32> {
  using Bytes = int8_t __attribute__((vector_size(32)));
  using Sums = int16_t __attribute__((vector_size(64)));
};

// `kLanes` sums of 16 bits fill a register; those of kBlocks blocks stay in registers while rows
// are read.
template <size_t kLanes, size_t kBlocks>
inline __attribute__((always_inline)) void SumBlocks(const uint32_t* begin, const uint32_t* end,
                                                     const Block* blocks, size_t blocks_per_row,
                                                     int32_t* __restrict sums) {
  using Bytes = typename Lanes<kLanes>::Bytes;
  using Sums = typename Lanes<kLanes>::Sums;
  constexpr size_t kRegisters = kBlocks * kBlock / kLanes;
  constexpr size_t kCacheLine = 64;
  // Rows are all over the table: they are asked for this many rows ahead.
  constexpr ptrdiff_t kAhead = 16;
  while (begin != end) {
    const uint32_t* const stop = begin + std::min(kMaxPartial, end - begin);
    Sums partial[kRegisters] = {};
    for (; begin != stop; ++begin) {
      if (end - begin > kAhead) {
        const Block* const next = blocks + begin[kAhead] * blocks_per_row;
        for (size_t i = 0; i < kBlocks * kBlock; i += kCacheLine) {
          __builtin_prefetch(next->weights + i);
        }
      }
      const int8_t* const row = blocks[*begin * blocks_per_row].weights;
      for (size_t i = 0; i < kRegisters; ++i) {
        Bytes bytes;
        std::memcpy(&bytes, row + i * kLanes, kLanes);
        partial[i] += __builtin_convertvector(bytes, Sums);
      }
    }
    int16_t flat[kBlocks * kBlock];
    std::memcpy(flat, partial, sizeof(flat));
    for (size_t c = 0; c < kBlocks * kBlock; ++c) sums[c] += flat[c];
  }
}

template <size_t kLanes>
inline __attribute__((always_inline)) void SumRowsLoop(const uint32_t* begin, const uint32_t* end,
                                                       const Block* blocks, size_t blocks_per_row,
                                                       int32_t* sums) {
  size_t b = 0;
  for (; b + 5 <= blocks_per_row; b += 5) {
    SumBlocks<kLanes, 5>(begin, end, blocks + b, blocks_per_row, sums + b * kBlock);
  }
  for (; b + 2 <= blocks_per_row; b += 2) {
    SumBlocks<kLanes, 2>(begin, end, blocks + b, blocks_per_row, sums + b * kBlock);
  }
  if (b < blocks_per_row) {
    SumBlocks<kLanes, 1>(begin, end, blocks + b, blocks_per_row, sums + b * kBlock);
  }
}

void SumRows(const uint32_t* begin, const uint32_t* end, const Block* blocks, size_t blocks_per_row,
             int32_t* sums) {
  SumRowsLoop<16>(begin, end, blocks, blocks_per_row, sums);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void SumRowsAvx2(const uint32_t* begin, const uint32_t* end,
                                                 const Block* blocks, size_t blocks_per_row,
                                                 int32_t* sums) {
  SumRowsLoop<16>(begin, end, blocks, blocks_per_row, sums);
}
__attribute__((target("avx512f,avx512bw,avx512vl"))) void SumRowsAvx512(const uint32_t* begin,
                                                                        const uint32_t* end,
                                                                        const Block* blocks,
                                                                        size_t blocks_per_row,
                                                                        int32_t* sums) {
  SumRowsLoop<32>(begin, end, blocks, blocks_per_row, sums);
}
#endif

float ScaleOf(const std::vector<float>& weights) {
  float largest = 0;
  for (const float weight : weights) largest = std::max(largest, std::abs(weight));
  return largest / kMaxWeight;
}

int8_t QuantizeWeight(float weight, float scale) {
  return static_cast<int8_t>(std::lround(std::clamp(weight / scale, -kMaxWeight, kMaxWeight)));
}

}  // namespace

QuantizedModel Quantize(const LinearModel& model) {
  QuantizedModel quantized;
  quantized.classes = model.classes;
  quantized.blocks_per_row = (model.classes + kBlock - 1) / kBlock;
  quantized.bias.assign(model.bias.begin(),
                        model.bias.begin() + static_cast<ptrdiff_t>(model.classes));
  quantized.blocks.resize(model.features * quantized.blocks_per_row);
  const float scale = ScaleOf(model.weights);
  quantized.scales.assign(model.classes, scale);
  if (scale == 0) return quantized;
  for (size_t row = 0; row < model.features; ++row) {
    const float* weights = &model.weights[row * model.stride];
    Block* blocks = &quantized.blocks[row * quantized.blocks_per_row];
    for (size_t c = 0; c < model.classes; ++c) {
      blocks[c / kBlock].weights[c % kBlock] = QuantizeWeight(weights[c], scale);
    }
  }
  return quantized;
}

QuantizedColumn QuantizeColumn(const std::vector<float>& weights, float bias) {
  QuantizedColumn column;
  column.bias = bias;
  column.scale = ScaleOf(weights);
  column.weights.assign(weights.size(), 0);
  if (column.scale == 0) return column;
  for (size_t row = 0; row < weights.size(); ++row) {
    column.weights[row] = QuantizeWeight(weights[row], column.scale);
  }
  return column;
}

void AppendColumn(const QuantizedColumn& column, QuantizedModel* model) {
  const size_t place = model->classes++;
  model->scales.push_back(column.scale);
  model->bias.push_back(column.bias);
  const size_t width = (model->classes + kBlock - 1) / kBlock;
  const size_t rows = std::max(model->rows(), column.weights.size());
  if (width != model->blocks_per_row) {
    std::vector<Block> wider(rows * width);
    for (size_t row = 0; row < model->rows(); ++row) {
      std::copy_n(&model->blocks[row * model->blocks_per_row], model->blocks_per_row,
                  &wider[row * width]);
    }
    model->blocks = std::move(wider);
    model->blocks_per_row = width;
  }
  model->blocks.resize(rows * width);
  for (size_t row = 0; row < column.weights.size(); ++row) {
    model->blocks[row * width + place / kBlock].weights[place % kBlock] = column.weights[row];
  }
}

const std::vector<SumRowsFunction>& SumRowsFunctions() {
  static const auto* const functions = [] {
    auto* const all = new std::vector<SumRowsFunction>{SumRows};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) all->push_back(SumRowsAvx2);
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
      all->push_back(SumRowsAvx512);
    }
#endif
    return all;
  }();
  return *functions;
}

const std::vector<float>& QuantizedLogits::Compute(const QuantizedModel& model,
                                                   float (*value)(uint32_t), GroupedRows* rows) {
  static const SumRowsFunction sum_rows = SumRowsFunctions().back();
  const size_t width = model.blocks_per_row * kBlock;
  const auto sum = [&](const std::vector<uint32_t>& group) {
    sums_.assign(width, 0);
    sum_rows(group.data(), group.data() + group.size(), model.blocks.data(), model.blocks_per_row,
             sums_.data());
  };
  sum(rows->once);
  totals_.assign(sums_.begin(), sums_.end());
  // Floats are added in the order of values, integers in any.
  std::sort(rows->other.begin(), rows->other.end(),
            [](const GroupedRows::Row& a, const GroupedRows::Row& b) { return a.value < b.value; });
  for (auto row = rows->other.begin(); row != rows->other.end();) {
    const uint32_t of_group = row->value;
    group_.clear();
    for (; row != rows->other.end() && row->value == of_group; ++row) group_.push_back(row->row);
    sum(group_);
    const float factor = value(of_group);
    for (size_t c = 0; c < width; ++c) totals_[c] += factor * static_cast<float>(sums_[c]);
  }
  logits_.resize(model.classes);
  for (size_t c = 0; c < model.classes; ++c) {
    logits_[c] = model.bias[c] + rows->scale * model.scales[c] * totals_[c];
  }
  return logits_;
}

float LogitOf(const QuantizedColumn& column, float (*value)(uint32_t), const GroupedRows& rows) {
  const auto weight = [&](uint32_t row) -> int32_t {
    return row < column.weights.size() ? column.weights[row] : 0;
  };
  int32_t sum = 0;
  for (const uint32_t row : rows.once) sum += weight(row);
  auto total = static_cast<float>(sum);
  for (auto row = rows.other.begin(); row != rows.other.end();) {
    const uint32_t of_group = row->value;
    sum = 0;
    for (; row != rows.other.end() && row->value == of_group; ++row) sum += weight(row->row);
    total += value(of_group) * static_cast<float>(sum);
  }
  return column.bias + rows.scale * column.scale * total;
}

}  // namespace octogate::router
