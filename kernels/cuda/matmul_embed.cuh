// Rows of a packed weight as floats.

#ifndef OCTOGATE_KERNELS_CUDA_MATMUL_EMBED_CUH_
#define OCTOGATE_KERNELS_CUDA_MATMUL_EMBED_CUH_

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/matmul_layout.h"
#include "kernels/quantized_dot.h"

namespace octogate::kernels::cuda {

inline constexpr int kEmbedPackedThreads = 256;

OCTOGATE_DEVICE uint16_t Load16(const uint8_t* from) {
  return *reinterpret_cast<const uint16_t*>(from);
}

// Blocks: x columns, y ids (in strides).
template <PackedFormat kFormat>
OCTOGATE_KERNEL void EmbedPackedKernel(const uint8_t* packed, PackedShape shape,
                                       const float* row_scales, const int32_t* ids, int count,
                                       float* out) {
  const int k = BlockX() * BlockThreads() + ThreadIndex();
  if (k >= shape.cols) return;
  shape.format = kFormat;  // a constant to the compiler
  for (int64_t i = BlockY(); i < count; i += GridY()) {
    const int n = ids[i];
    const CodePosition position = PositionOfCode(shape, n, k);
    float value;
    if constexpr (kFormat == PackedFormat::kBf16) {
      value = ToFloat(Bf16{Load16(packed + position.byte)});
    } else if constexpr (kFormat == PackedFormat::kF16) {
      value = ToFloat(F16{Load16(packed + position.byte)});
    } else if constexpr (kFormat == PackedFormat::kFp8) {
      const uint32_t code = packed[position.byte];
      const F16 bits{static_cast<uint16_t>((code & 0x80u) << 8 | (code & 0x7Fu) << 7)};
      value = row_scales[n] * (ToFloat(bits) * kFloat8Shift);
    } else {
      const int code = kFormat == PackedFormat::kInt4Group
                           ? (packed[position.byte] >> position.shift & 0xF) - 8
                           : packed[position.byte] - 128;
      const float scale = HasGroupScales(kFormat)
                              ? ToFloat(F16{Load16(packed + PositionOfScale(shape, n, k))})
                              : row_scales[n];
      value = scale * static_cast<float>(code);
    }
    out[i * shape.cols + k] = value;
  }
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_MATMUL_EMBED_CUH_
