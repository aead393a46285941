// Rotary embedding on the device; the bits are the CPU's (kernels/rotary.h).

#ifndef OCTOGATE_KERNELS_CUDA_ROPE_H_
#define OCTOGATE_KERNELS_CUDA_ROPE_H_

#include <cstdint>

#include "kernels/cuda/stream.h"

namespace octogate::kernels::cuda {

// Backend::Rope; inverse_frequencies and positions are device memory.
struct RopeArguments {
  int heads = 0;
  int head_dim = 0;
  int frequencies = 0;
  const float* inverse_frequencies = nullptr;
  float attention_factor = 1;
  const int32_t* positions = nullptr;
  int rows = 0;
  int stride = 0;
  float* x = nullptr;
  bool operator==(const RopeArguments&) const = default;
};

void LaunchRope(Stream stream, const RopeArguments& arguments);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_ROPE_H_
