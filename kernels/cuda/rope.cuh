// Kernel of rope.h: a thread computes one angle of a row and rotates its pair in
// kRopeHeads heads. Blocks: x frequencies, y rows (in strides), z heads.

#ifndef OCTOGATE_KERNELS_CUDA_ROPE_CUH_
#define OCTOGATE_KERNELS_CUDA_ROPE_CUH_

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/rope.h"
#include "kernels/rotary.h"

namespace octogate::kernels::cuda {

inline constexpr int kRopeThreads = 64;
inline constexpr int kRopeHeads = 4;

OCTOGATE_KERNEL void RopeKernel(RopeArguments a) {
  const int i = BlockX() * BlockThreads() + ThreadIndex();
  if (i >= a.frequencies) return;
  for (int64_t r = BlockY(); r < a.rows; r += GridY()) {
    const float angle = static_cast<float>(a.positions[r]) * a.inverse_frequencies[i];
    const SineCosine value = SinCos(angle);
    const float sine = value.sine * a.attention_factor;
    const float cosine = value.cosine * a.attention_factor;
    for (int group = BlockZ(); group * kRopeHeads < a.heads; group += GridZ()) {
      for (int h = group * kRopeHeads; h < a.heads && h < (group + 1) * kRopeHeads; ++h) {
        float* head = a.x + r * a.stride + h * a.head_dim;
        const float first = head[i];
        const float second = head[i + a.frequencies];
        head[i] = first * cosine - second * sine;
        head[i + a.frequencies] = second * cosine + first * sine;
      }
    }
  }
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_ROPE_CUH_
