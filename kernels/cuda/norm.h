// RMSNorm and LayerNorm on the device: what they compute says
// kernels/backend.h, and the order of their sums kernels/reduction_order.h, so
// the bits are the CPU's.

#ifndef OCTOGATE_KERNELS_CUDA_NORM_H_
#define OCTOGATE_KERNELS_CUDA_NORM_H_

#include "kernels/cuda/stream.h"

namespace octogate::kernels::cuda {

void LaunchRmsNorm(Stream stream, const float* x, const float* weight, int rows, int columns,
                   float epsilon, float* out);

// In place, of `heads` heads side by side in rows `stride` floats apart.
void LaunchRmsNormHeads(Stream stream, const float* weight, int rows, int heads, int head_dim,
                        int stride, float epsilon, float* x);

// bias may be null.
void LaunchLayerNorm(Stream stream, const float* x, const float* weight, const float* bias,
                     int rows, int columns, float epsilon, float* out);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_NORM_H_
