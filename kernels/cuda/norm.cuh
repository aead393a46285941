// Kernels of norm.h: one block for each row, which brings the row into shared
// memory with all threads, adds it up in 16 lanes and scales it with all
// threads. A row that shared memory cannot hold is read where it lies.

#ifndef OCTOGATE_KERNELS_CUDA_NORM_CUH_
#define OCTOGATE_KERNELS_CUDA_NORM_CUH_

#include <cmath>
#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/lanes.cuh"

namespace octogate::kernels::cuda {

inline constexpr int kNormThreads = 256;
// Shared memory begins with two results of the sums.
inline constexpr int kNormHeader = 4;

// Called by the first warp: sum of (row[k] - mean)^2, or of row[k] where
// kSquares is false.
template <bool kSquares>
OCTOGATE_DEVICE float SumRow(const float* row, int columns, float mean) {
  float lane = 0;
#pragma unroll 8
  for (int k = 0; k < columns; k += kLanes) {
    const bool inside = k + SumLane() < columns;
    const float value = inside ? row[k + SumLane()] - mean : 0.0f;
    lane = kSquares ? std::fma(value, value, lane) : lane + value;
  }
  return SumOfLanes(lane);
}

// Each block takes one of the `parts` that lie side by side in a row of `stride` floats.
template <bool kCentred, bool kStaged>
OCTOGATE_KERNEL void NormKernel(const float* x, const float* weight, const float* bias, int parts,
                                int stride, int columns, float epsilon, float* out) {
  float* header = SharedMemory<float>();
  const int64_t offset =
      static_cast<int64_t>(BlockX() / parts) * stride + BlockX() % parts * columns;
  const float* row = x + offset;
  if constexpr (kStaged) {
    float* staged = header + kNormHeader;
    for (int c = ThreadIndex(); c < columns; c += BlockThreads()) staged[c] = row[c];
    Barrier();
    row = staged;
  }
  if (Warp() == 0) {
    const float mean =
        kCentred ? SumRow<false>(row, columns, 0) / static_cast<float>(columns) : 0.0f;
    const float scale = InverseRms(SumRow<true>(row, columns, mean), columns, epsilon);
    if (Lane() == 0) {
      header[0] = mean;
      header[1] = scale;
    }
  }
  Barrier();
  const float mean = header[0];
  const float scale = header[1];
  for (int c = ThreadIndex(); c < columns; c += BlockThreads()) {
    const float centred = kCentred ? row[c] - mean : row[c];
    const float y = centred * scale * weight[c];
    out[offset + c] = kCentred && bias != nullptr ? y + bias[c] : y;
  }
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_NORM_CUH_
