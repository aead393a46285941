// Rows of x to the operands of matmul_layout.h ("Packed inputs").

#ifndef OCTOGATE_KERNELS_CUDA_MATMUL_INPUT_CUH_
#define OCTOGATE_KERNELS_CUDA_MATMUL_INPUT_CUH_

#include <bit>
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/device.h"
#include "kernels/cuda/matmul_layout.h"

namespace octogate::kernels::cuda {

inline constexpr int kPackInputThreads = 256;

struct PackInputArguments {
  const float* x;
  int rows;
  int cols;
  uint8_t* packed;     // rows filled up to whole tiles: the fill is not written
  float* row_factors;  // [rows], what undoes the scaling; null for BF16
  int* counters;       // set to zero for the product that follows
  int counter_count;
  bool operator==(const PackInputArguments&) const = default;
};

// The exponent e of the power of two 2^-e that brings `largest` into
// [2^14, 2^15).
OCTOGATE_DEVICE int InputExponent(float largest) {
  const int exponent = static_cast<int>(std::bit_cast<uint32_t>(largest) >> 23) - 127;
  return exponent - 14 < -100 ? -100 : exponent - 14;
}
OCTOGATE_DEVICE float PowerOfTwo(int exponent) {  // of a normal number
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}
OCTOGATE_DEVICE bool IsFinite(float x) {
  return (std::bit_cast<uint32_t>(x) & 0x7FFFFFFFu) < 0x7F800000u;
}

// What rounding to hi leaves; 0 where hi is not finite.
template <typename T>
OCTOGATE_DEVICE float Rest(float x) {
  const float hi = ToFloat(FromFloat<T>(x));
  return IsFinite(hi) ? x - hi : 0.0f;
}

// The largest finite magnitude of a row, the same in all threads.
OCTOGATE_DEVICE float LargestFinite(const float* row, int cols) {
  uint32_t largest = 0;
#pragma unroll 8
  for (int k = ThreadIndex(); k < cols; k += BlockThreads()) {
    const uint32_t magnitude = std::bit_cast<uint32_t>(row[k]) & 0x7FFFFFFFu;
    if (magnitude < 0x7F800000u && magnitude > largest) largest = magnitude;
  }
  auto* warps = SharedMemory<uint32_t>();
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    const uint32_t other = ShuffleXor(largest, mask);
    largest = other > largest ? other : largest;
  }
  Barrier();  // the last row's values have been read
  if (Lane() == 0) warps[Warp()] = largest;
  Barrier();
  for (int w = 0; w < BlockThreads() / kWarpThreads; ++w) {
    largest = warps[w] > largest ? warps[w] : largest;
  }
  return std::bit_cast<float>(largest);
}

// T: the operand's type. Blocks: x columns, y rows (both in strides); where rows
// are few each of a row's blocks looks for its largest value. Shared memory: 4
// bytes for each warp.
template <typename T, InputRounding kRounding>
OCTOGATE_KERNEL void PackInputKernel(PackInputArguments a) {
  const int block = BlockY() * GridX() + BlockX();
  for (int i = block * BlockThreads() + ThreadIndex(); i < a.counter_count;
       i += GridX() * GridY() * BlockThreads()) {
    a.counters[i] = 0;
  }
  const int quads = PaddedColumns(a.cols) / 4;
  constexpr int kLaneBytes = InputLaneBytes(kRounding);
  for (int64_t r = BlockY(); r < a.rows; r += GridY()) {
    const float* row = a.x + r * a.cols;
    float scale = 1;
    if constexpr (std::is_same_v<T, F16>) {
      const int exponent = InputExponent(LargestFinite(row, a.cols));
      scale = PowerOfTwo(-exponent);
      if (BlockX() == 0 && ThreadIndex() == 0) a.row_factors[r] = PowerOfTwo(exponent);
    }
    uint8_t* tile = a.packed + r / kTileRows * (quads / 4) * (32 * kLaneBytes);
    for (int q = BlockX() * BlockThreads() + ThreadIndex(); q < quads;
         q += GridX() * BlockThreads()) {
      float v[4];
      for (int i = 0; i < 4; ++i) {
        const int k = 4 * q + i;
        v[i] = k < a.cols ? row[k] * scale : 0.0f;
      }
      const int lane = static_cast<int>(r % kTileRows) * 4 + q % 4;
      uint8_t* to = tile + (q / 4 * 32 + lane) * static_cast<int64_t>(kLaneBytes);
      if constexpr (kRounding == InputRounding::kSplit) {
        StoreVector(
            to, {Pack<T>(v[0], v[1]), Pack<T>(v[2], v[3]), Pack<T>(Rest<T>(v[0]), Rest<T>(v[1])),
                 Pack<T>(Rest<T>(v[2]), Rest<T>(v[3]))});
      } else {
        auto* words = reinterpret_cast<uint32_t*>(to);
        words[0] = Pack<T>(v[0], v[1]);
        words[1] = Pack<T>(v[2], v[3]);
      }
    }
  }
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_MATMUL_INPUT_CUH_
