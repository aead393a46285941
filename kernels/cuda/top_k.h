// The largest logits of rows, and what log(sum(exp)) is made of, on the device.

#ifndef OCTOGATE_KERNELS_CUDA_TOP_K_H_
#define OCTOGATE_KERNELS_CUDA_TOP_K_H_

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/memory.h"
#include "kernels/cuda/stream.h"
#include "kernels/host_device.h"

namespace octogate::kernels::cuda {

// The largest k; beyond it a row is better ranked on the host.
inline constexpr int kMaxDeviceTopK = 256;

// Bytes of workspace for each row.
size_t TopKWorkspaceBytes(int columns, int k);

// Backend::TopK for k up to kMaxDeviceTopK; ids and values [rows, k] are on the
// device, and so are max and sum [rows]: log(sum(exp)) is LogSumExp(max, sum) of
// kernels/reduction_order.h. The workspace has TopKWorkspaceBytes for each row.
void LaunchTopK(Stream stream, const float* logits, int rows, int columns, int k,
                const Workspace& workspace, int32_t* ids, float* values, float* max, float* sum);

// A value and its index as one number: larger means earlier in the order of
// TopK. A NaN is less than anything, the zeros are equal, and of equal values
// the smaller index comes first. 0 is less than all ranks.
OCTOGATE_HOST_DEVICE inline uint64_t RankOf(float value, int index) {
  uint32_t order = 1;  // NaN
  if (!std::isnan(value)) {
    const uint32_t bits = std::bit_cast<uint32_t>(value == 0 ? 0.0f : value);
    order = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  }
  return static_cast<uint64_t>(order) << 32 | ~static_cast<uint32_t>(index);
}
OCTOGATE_HOST_DEVICE inline int IndexOf(uint64_t rank) {
  return static_cast<int>(~static_cast<uint32_t>(rank));
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_TOP_K_H_
