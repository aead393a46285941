// Conversions between float and the 8-bit format E4M3 (Micikevicius et al. 2022,
// "FP8 formats for deep learning", arXiv:2209.05433): one sign bit, four bits of
// exponent with bias 7, three of mantissa; no infinities, and a NaN where all
// exponent and mantissa bits are set. The largest value is 448, the smallest
// 2^-9.

#ifndef OCTOGATE_KERNELS_FLOAT8_H_
#define OCTOGATE_KERNELS_FLOAT8_H_

#include <bit>
#include <cstdint>

#include "kernels/float16.h"
#include "kernels/host_device.h"

namespace octogate::kernels {

inline constexpr float kFloat8Max = 448;
inline constexpr uint8_t kFloat8Nan = 0x7F;

// Exact: with its bits in the place of F16's an E4M3 number is 2^8 times too
// small, subnormal or not.
OCTOGATE_HOST_DEVICE inline float Float8ToFloat(uint8_t value) {
  const auto sign = static_cast<uint16_t>((value & 0x80u) << 8);
  if ((value & 0x7Fu) == kFloat8Nan) return Float16ToFloat(static_cast<uint16_t>(sign | 0x7E00u));
  return 256 * Float16ToFloat(static_cast<uint16_t>(sign | ((value & 0x7Fu) << 7)));
}

// Rounds to nearest, ties to even; what is larger than kFloat8Max becomes
// kFloat8Max, infinities included. A NaN stays one.
OCTOGATE_HOST_DEVICE inline uint8_t FloatToFloat8(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 24) & 0x80u;
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return static_cast<uint8_t>(sign | kFloat8Nan);
  if (magnitude >= 0x43E00000u) return static_cast<uint8_t>(sign | 0x7Eu);  // >= 448
  if (magnitude >= 0x3C800000u) {                                           // >= 2^-6
    const uint32_t rounded = magnitude + 0x7FFFFu + ((magnitude >> 20) & 1u);
    return static_cast<uint8_t>(sign | ((rounded - 0x3C000000u) >> 20));
  }
  // Subnormal or zero: adding 2^14 leaves the value as a multiple of 2^-9 in the
  // low bits, rounded to nearest even by the addition itself.
  const float shifted = std::bit_cast<float>(magnitude) + 0x1p14f;
  return static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x46800000u));
}

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_FLOAT8_H_
