#include "kernels/cpu/quantized_matmul.h"

#include <algorithm>
#include <cstddef>

namespace octogate::kernels {
namespace {

// Bytes of the weight that make a task worth sharing, and values of x that do.
constexpr size_t kTaskBytes = size_t{1} << 17;
constexpr int kTaskInputs = 1 << 14;
// Panels of a task are a multiple of what a kernel takes at once.
constexpr int kPanelsAtOnce = 4;

size_t Offset(int row, int stride) {
  return static_cast<size_t>(row) * static_cast<size_t>(stride);
}

// f(begin, end) over [0, count) in parts of `chunk`.
template <typename F>
void RunChunks(ThreadPool& pool, int count, int chunk, const F& f) {
  pool.Run((count + chunk - 1) / chunk,
           [&](int task, int /*thread*/) { f(task * chunk, std::min(count, (task + 1) * chunk)); });
}

int ChunkOf(size_t unit_bytes, int units) {
  const size_t wanted = std::max<size_t>(1, kTaskBytes / std::max<size_t>(1, unit_bytes));
  const size_t rounded = (wanted + kPanelsAtOnce - 1) / kPanelsAtOnce * kPanelsAtOnce;
  return static_cast<int>(std::min(rounded, static_cast<size_t>(std::max(1, units))));
}

}  // namespace

QuantizedInputs::QuantizedInputs()
    : codes(AllocateHost<int8_t>(kCapacity)),
      scales(AllocateHost<float>(kCapacity / kQuantizationGroup)),
      sums(AllocateHost<int32_t>(kCapacity / kQuantizationGroup)) {}

bool QuantizedInputs::HasMemory() const {
  return codes != nullptr && scales != nullptr && sums != nullptr;
}

void CpuQuantizedMatMul(const QuantizedKernelTable& kernels, ThreadPool& pool,
                        QuantizedInputs& inputs, const PackedWeight& weight, const float* bias,
                        const float* x, int rows, bool accumulate, float* out, int out_stride) {
  const int groups = weight.groups();
  const int padded = groups * kQuantizationGroup;
  const int rows_at_once = std::max(1, QuantizedInputs::kCapacity / std::max(1, padded) /
                                           kQuantizedInputRows * kQuantizedInputRows);
  const QuantizedInput codes{inputs.codes.get(), inputs.scales.get(), inputs.sums.get()};
  for (int first = 0; first < rows; first += rows_at_once) {
    const int count = std::min(rows_at_once, rows - first);
    RunChunks(pool, count, std::max(1, kTaskInputs / std::max(1, padded)), [&](int begin, int end) {
      for (int r = begin; r < end; ++r) {
        kernels.quantize_input(x + Offset(first + r, weight.cols), weight.cols, r, codes);
      }
    });
    const IntegerMatMulArgs args{.format = weight.format,
                                 .codes = weight.codes(),
                                 .row_scales = weight.row_scales(),
                                 .group_scales = weight.group_scales(),
                                 .outputs = weight.rows,
                                 .groups = groups,
                                 .x = inputs.codes.get(),
                                 .x_scales = inputs.scales.get(),
                                 .x_sums = inputs.sums.get(),
                                 .rows = count,
                                 .bias = bias,
                                 .accumulate = accumulate,
                                 .out = out + Offset(first, out_stride),
                                 .out_stride = out_stride};
    RunChunks(pool, weight.panels(), ChunkOf(weight.panel_bytes(), weight.panels()),
              [&](int begin, int end) { kernels.matmul_integer(args, begin, end); });
  }
}

}  // namespace octogate::kernels
