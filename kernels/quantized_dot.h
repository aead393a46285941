// Products with weights that are 8- or 4-bit integers, in plain scalar form: the
// companion of kernels/reduction_order.h, which every path follows as it does
// that one.
//
// What a weight multiplies is rounded to 8 bits first. A row of x is cut into
// groups of kQuantizationGroup columns, the last filled with zeros. Of each
// group, m being its largest magnitude:
//   scale x[g] = m / 127;  code = x * (127 / m), rounded to nearest, ties to even.
// Where m is below 2^-100 the scale and the codes are zero. Where the group holds
// an infinity or a NaN the scale is NaN and the codes are zero, so that every
// output of the row is NaN. Nothing but the row itself enters, hence the result
// does not depend on the batch.
//
// A group's dot product d[g] of codes is an integer below 2^24: exact, in any
// order and in float. Groups are added in ascending order, starting from +0:
//   scales by group:  sum = fma(d[g], x[g] * w[g], sum);    y = sum
//   scales by row:    sum = fma(d[g], x[g], sum);           y = sum * w
// and FinishDot follows. kFp8 keeps x in float and takes the sixteen lanes of
// Dot over the codes times 2^-8 (which is what the bits of an E4M3 number mean
// as those of an F16); then y = dot * (scale * 2^8). Where activations are rounded to
// BF16 in pairs (CpuBackendOptions), DotBf16Pairs (kernels/bf16_dot.h) of the same takes
// the place of Dot.

#ifndef OCTOGATE_KERNELS_QUANTIZED_DOT_H_
#define OCTOGATE_KERNELS_QUANTIZED_DOT_H_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/weight_format.h"

namespace octogate::kernels {

inline constexpr uint32_t kSmallestGroupMagnitude = 0x0D800000u;  // the bits of 2^-100
inline constexpr uint32_t kInfinityBits = 0x7F800000u;
inline constexpr float kFloat8Shift = 256;  // 2^8

struct InputScale {
  float scale;
  float inverse;  // 0: all codes are zero
};

// `largest` is the largest of the bit patterns of |x|, in which infinities and
// NaNs come last.
inline InputScale ScaleOfGroup(uint32_t largest) {
  if (largest >= kInfinityBits) return {std::numeric_limits<float>::quiet_NaN(), 0};
  if (largest < kSmallestGroupMagnitude) return {0, 0};
  const float magnitude = std::bit_cast<float>(largest);
  return {magnitude / 127, 127 / magnitude};
}

// Quantises a group of `count` values of x (at most kQuantizationGroup); the
// codes are filled up with zeros. Returns the scale.
inline float QuantizeGroup(const float* x, int count, int8_t* codes) {
  uint32_t largest = 0;
  for (int i = 0; i < count; ++i) {
    largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7FFFFFFFu);
  }
  const InputScale scale = ScaleOfGroup(largest);
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: rounds to integer
  for (int i = 0; i < kQuantizationGroup; ++i) {
    const bool zero = i >= count || scale.inverse == 0;
    codes[i] = static_cast<int8_t>(zero ? 0.0f : (x[i] * scale.inverse + kRounder) - kRounder);
  }
  return scale.scale;
}

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_QUANTIZED_DOT_H_
