// Products in the CPU's order of operations (kernels/reduction_order.h), hence
// with its bits, on CUDA cores: for weights in F32, and the standard by which
// faster kernels are measured.

#ifndef OCTOGATE_KERNELS_CUDA_MATMUL_EXACT_H_
#define OCTOGATE_KERNELS_CUDA_MATMUL_EXACT_H_

#include "kernels/cuda/device_weight.h"
#include "kernels/cuda/stream.h"

namespace octogate::kernels::cuda {

// Backend::MatMul.
void LaunchExactMatMul(Stream stream, const DeviceWeight& weight, const float* bias, const float* x,
                       int rows, bool accumulate, float* out, int out_stride);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_MATMUL_EXACT_H_
