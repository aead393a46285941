// Products in the CPU's order of operations (kernels/reduction_order.h), hence
// with its bits, on CUDA cores: for weights in F32, which tensor cores do not
// take unrounded.

#ifndef OCTOGATE_KERNELS_CUDA_MATMUL_EXACT_H_
#define OCTOGATE_KERNELS_CUDA_MATMUL_EXACT_H_

#include "kernels/cuda/stream.h"

namespace octogate::kernels::cuda {

// Backend::MatMul; the weight is [outputs, cols].
struct ExactMatMulArguments {
  const float* weight = nullptr;
  int outputs = 0;
  int cols = 0;
  const float* bias = nullptr;
  const float* x = nullptr;
  int rows = 0;
  bool accumulate = false;
  float* out = nullptr;
  int out_stride = 0;
  bool operator==(const ExactMatMulArguments&) const = default;
};
void LaunchExactMatMul(Stream stream, const ExactMatMulArguments& arguments);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_MATMUL_EXACT_H_
