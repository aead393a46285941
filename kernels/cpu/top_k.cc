#include "kernels/cpu/top_k.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <limits>

#include "kernels/reduction_order.h"

namespace octogate::kernels {
namespace {

// Columns that are skipped at once where none of them is among the largest.
constexpr int kSkippedColumns = 128;

// Partial sums that are computed before they are added.
constexpr int kPartialSums = 256;

// Whether a ranks before b: larger, or as large and at a lower index. A NaN ranks
// behind all numbers.
bool RanksBefore(const float* row, int32_t a, int32_t b) {
  const float x = row[a];
  const float y = row[b];
  if (std::isnan(x) || std::isnan(y)) return std::isnan(y) && (!std::isnan(x) || a < b);
  return x > y || (x == y && a < b);
}

// The k first of a row, in order: a heap with the last of them on top takes in
// whatever ranks before that one. Returns the largest value, NaNs aside.
float SelectLargest(const KernelTable& kernels, const float* row, int columns, int k,
                    int32_t* ids) {
  const auto before = [row](int32_t a, int32_t b) { return RanksBefore(row, a, b); };
  for (int32_t i = 0; i < k; ++i) ids[i] = i;
  std::make_heap(ids, ids + k, before);
  float max = kernels.maximum(row, k);
  for (int begin = k; begin < columns; begin += kSkippedColumns) {
    const int count = std::min(kSkippedColumns, columns - begin);
    const float largest = kernels.maximum(row + begin, count);
    max = std::max(max, largest);
    if (k == 0 || largest <= row[ids[0]]) continue;
    for (int32_t c = begin; c < begin + count; ++c) {
      if (!RanksBefore(row, c, ids[0])) continue;
      std::pop_heap(ids, ids + k, before);
      ids[k - 1] = c;
      std::push_heap(ids, ids + k, before);
    }
  }
  std::sort_heap(ids, ids + k, before);
  return max;
}

}  // namespace

void CpuTopK(const KernelTable& kernels, ThreadPool& pool, const float* logits, int rows,
             int columns, int k, std::span<int32_t> ids, std::span<float> values,
             std::span<float> log_sum_exp) {
  assert(k >= 0 && k <= columns);
  assert(ids.size() >= static_cast<size_t>(rows) * static_cast<size_t>(k));
  assert(values.size() >= static_cast<size_t>(rows) * static_cast<size_t>(k));
  assert(log_sum_exp.size() >= static_cast<size_t>(rows));
  const auto row_of = [&](int r) {
    return logits + static_cast<size_t>(r) * static_cast<size_t>(columns);
  };
  pool.Run(rows, [&](int r, int /*thread*/) {
    const size_t first = static_cast<size_t>(r) * static_cast<size_t>(k);
    log_sum_exp[static_cast<size_t>(r)] =
        SelectLargest(kernels, row_of(r), columns, k, ids.data() + first);
    for (size_t i = first; i < first + static_cast<size_t>(k); ++i) values[i] = row_of(r)[ids[i]];
  });

  const int blocks = (columns + kLogSumExpBlock - 1) / kLogSumExpBlock;
  std::array<float, kPartialSums> partial;
  for (int r = 0; r < rows; ++r) {
    float& result = log_sum_exp[static_cast<size_t>(r)];
    const float max = result;
    float sum = 0;
    for (int first = 0; first < blocks; first += kPartialSums) {
      const int count = std::min(kPartialSums, blocks - first);
      pool.Run(count, [&](int b, int /*thread*/) {
        const int begin = (first + b) * kLogSumExpBlock;
        partial[static_cast<size_t>(b)] =
            kernels.sum_exp(row_of(r) + begin, std::min(kLogSumExpBlock, columns - begin), max, 1);
      });
      for (int b = 0; b < count; ++b) sum += partial[static_cast<size_t>(b)];
    }
    result = LogSumExp(max, sum);
  }
}

}  // namespace octogate::kernels
