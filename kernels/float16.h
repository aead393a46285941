// Conversions between float and the two 16-bit storage formats, in integer
// arithmetic so that they are the same everywhere.
//
// Widening is exact; a NaN stays a NaN with its payload. Narrowing rounds to
// nearest, ties to even; what is too large becomes infinity, subnormal results
// are kept, and a NaN becomes a quiet NaN.

#ifndef OCTOGATE_KERNELS_FLOAT16_H_
#define OCTOGATE_KERNELS_FLOAT16_H_

#include <bit>
#include <cstdint>

#include "kernels/host_device.h"

namespace octogate::kernels {

OCTOGATE_HOST_DEVICE inline float BFloat16ToFloat(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

OCTOGATE_HOST_DEVICE inline uint16_t FloatToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

OCTOGATE_HOST_DEVICE inline float Float16ToFloat(uint16_t value) {
  const uint32_t sign = static_cast<uint32_t>(value & 0x8000u) << 16;
  const uint32_t magnitude = value & 0x7FFFu;
  if (magnitude >= 0x7C00u) {  // infinity, or a NaN, which is made quiet
    const uint32_t quiet = magnitude > 0x7C00u ? 0x400000u : 0u;
    return std::bit_cast<float>(sign | 0x7F800000u | quiet | ((magnitude & 0x3FFu) << 13));
  }
  if (magnitude >= 0x0400u) return std::bit_cast<float>(sign | ((magnitude + 0x1C000u) << 13));
  // Subnormal: magnitude * 2^-24, exact in float.
  const float scaled = static_cast<float>(magnitude) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(scaled));
}

OCTOGATE_HOST_DEVICE inline uint16_t FloatToFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) {
    return static_cast<uint16_t>(sign | 0x7E00u | ((magnitude >> 13) & 0x3FFu));
  }
  if (magnitude >= 0x477FF000u) return static_cast<uint16_t>(sign | 0x7C00u);  // >= 65520
  if (magnitude >= 0x38800000u) {                                              // >= 2^-14
    const uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
  }
  // Subnormal or zero: adding 0.5 leaves the value as a multiple of 2^-24 in
  // the low bits, rounded to nearest even by the addition itself.
  const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
  return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000u));
}

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_FLOAT16_H_
