// Products with quantised weights on the threads of a pool.

#ifndef OCTOGATE_KERNELS_CPU_QUANTIZED_MATMUL_H_
#define OCTOGATE_KERNELS_CPU_QUANTIZED_MATMUL_H_

#include <cstdint>

#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/quantized_table.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/host_memory.h"

namespace octogate::kernels {

// Room for x in integer codes, so many rows at a time as fit.
class QuantizedInputs {
 public:
  QuantizedInputs();
  bool HasMemory() const;

  // Values that fit; at least one row of kMaxQuantizedColumns.
  static constexpr int kCapacity = 1 << 22;
  static_assert(kCapacity >= kMaxQuantizedColumns);

  HostArray<int8_t> codes;
  HostArray<float> scales;  // one for each group
  HostArray<int32_t> sums;
};

// Backend::MatMul.
void CpuQuantizedMatMul(const QuantizedKernelTable& kernels, ThreadPool& pool,
                        QuantizedInputs& inputs, const PackedWeight& weight, const float* bias,
                        const float* x, int rows, bool accumulate, float* out, int out_stride);

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_QUANTIZED_MATMUL_H_
