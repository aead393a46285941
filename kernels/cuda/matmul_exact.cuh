// Kernel of matmul_exact.h: half a warp computes one output of kExactRows rows
// of x, so that a weight is read once for all of them.

#ifndef OCTOGATE_KERNELS_CUDA_MATMUL_EXACT_CUH_
#define OCTOGATE_KERNELS_CUDA_MATMUL_EXACT_CUH_

#include <cmath>
#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/lanes.cuh"
#include "kernels/cuda/matmul_exact.h"

namespace octogate::kernels::cuda {

inline constexpr int kExactThreads = 128;
inline constexpr int kExactOutputs = kExactThreads / kLanes;  // of a block
inline constexpr int kExactRows = 8;

// Blocks: x outputs, y rows (in strides).
OCTOGATE_KERNEL void ExactMatMulKernel(ExactMatMulArguments a) {
  const int n = BlockX() * kExactOutputs + HalfWarp();
  const bool inside = n < a.outputs;
  const float* weight = a.weight + static_cast<int64_t>(inside ? n : 0) * a.cols;
  for (int first = BlockY() * kExactRows; first < a.rows; first += GridY() * kExactRows) {
    const int rows = a.rows - first < kExactRows ? a.rows - first : kExactRows;
    const float* x = a.x + static_cast<int64_t>(first) * a.cols;
    float lanes[kExactRows] = {};
#pragma unroll 4
    for (int k = 0; k < a.cols; k += kLanes) {
      const bool in_row = k + SumLane() < a.cols;
      const float w = in_row ? weight[k + SumLane()] : 0.0f;
#pragma unroll
      for (int r = 0; r < kExactRows; ++r) {
        const bool valid = in_row && r < rows;
        const float value = valid ? x[static_cast<int64_t>(r) * a.cols + k + SumLane()] : 0.0f;
        lanes[r] = std::fma(value, w, lanes[r]);
      }
    }
#pragma unroll
    for (int r = 0; r < kExactRows; ++r) {
      if (r >= rows) break;  // the whole block
      const float dot = SumOfLanes(lanes[r]);
      if (!inside || SumLane() != 0) continue;
      float* out = a.out + static_cast<int64_t>(first + r) * a.out_stride + n;
      *out = FinishDot(dot, a.bias, n, a.accumulate, a.accumulate ? *out : 0.0f);
    }
  }
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_MATMUL_EXACT_CUH_
