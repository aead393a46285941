// The sums of kernels/reduction_order.h on the device: half a warp holds the 16
// lanes, and the butterfly of its shuffles is the tree over them.

#ifndef OCTOGATE_KERNELS_CUDA_LANES_CUH_
#define OCTOGATE_KERNELS_CUDA_LANES_CUH_

#include "kernels/cuda/device.h"
#include "kernels/reduction_order.h"

namespace octogate::kernels::cuda {

static_assert(kLanes * 2 == kWarpThreads);

// This thread's lane, and the half warp of the block that it belongs to.
OCTOGATE_DEVICE int SumLane() { return ThreadIndex() % kLanes; }
OCTOGATE_DEVICE int HalfWarp() { return ThreadIndex() / kLanes; }

// The sum of the 16 lanes, in every one of them. All 32 threads of the warp
// take part.
OCTOGATE_DEVICE float SumOfLanes(float lane) {
  for (int mask = kLanes / 2; mask > 0; mask /= 2) lane += ShuffleXor(lane, mask);
  return lane;
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_LANES_CUH_
