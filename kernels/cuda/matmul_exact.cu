#include <algorithm>
#include <cassert>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul_exact.cuh"
#include "kernels/cuda/matmul_exact.h"

namespace octogate::kernels::cuda {

void LaunchExactMatMul(Stream stream, const DeviceWeight& weight, const float* bias, const float* x,
                       int rows, bool accumulate, float* out, int out_stride) {
  const ExactMatMulArguments arguments{weight.data(), weight.rows, weight.cols, bias,      x,
                                       rows,          accumulate,  out,         out_stride};
  const Grid grid{BlocksFor(weight.rows, kExactOutputs),
                  std::min(BlocksFor(rows, kExactRows), static_cast<unsigned>(kMaxGridRows))};
  switch (weight.dtype()) {
    case DType::kF32:
      return Launch(stream, grid, kExactThreads, 0, ExactMatMulKernel<float>, arguments);
    case DType::kF16:
      return Launch(stream, grid, kExactThreads, 0, ExactMatMulKernel<F16>, arguments);
    case DType::kBF16:
      return Launch(stream, grid, kExactThreads, 0, ExactMatMulKernel<Bf16>, arguments);
    default:
      assert(false);  // no type of weights
  }
}

}  // namespace octogate::kernels::cuda
