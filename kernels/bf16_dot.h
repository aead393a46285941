// Dot products of BF16 pairs: what AVX512_BF16's vdpbf16ps computes, in scalar
// form. Used where activations are rounded to BF16 (CpuBackendOptions).
//
// Lane l of 16 takes the pairs (32 i + 2 l, 32 i + 2 l + 1) in ascending order,
// starting from +0, missing values being zeros; the lanes are added as in
// kernels/reduction_order.h. A step adds the odd product, then the even one,
// each with one rounding. Unlike everything else in kernels/, the steps flush
// subnormals to zero: operands before use, and a result that is below 2^-126
// after rounding to 24 bits as if exponents had no lower end. This was compared
// with a Zen 4 processor; tests/kernels/bf16_test.cc repeats it where there is
// one.

#ifndef OCTOGATE_KERNELS_BF16_DOT_H_
#define OCTOGATE_KERNELS_BF16_DOT_H_

#include <cmath>

#include "kernels/reduction_order.h"

namespace octogate::kernels {

inline constexpr int kPairColumns = 2 * kLanes;

// Wider weights keep activations in F32, so that scratch memory is bounded.
inline constexpr int kMaxBf16Columns = 1 << 16;

inline float FlushSubnormal(float x) {
  return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x;
}

// One product of a step: a and b are BF16 values.
inline float Bf16MultiplyAdd(float a, float b, float c) {
  a = FlushSubnormal(a);
  b = FlushSubnormal(b);
  c = FlushSubnormal(c);
  const float result = FlushSubnormal(std::fma(a, b, c));
  if (std::fabs(result) != 0x1p-126f) return result;
  // Rounded up to the smallest normal number from below? Then it is flushed if
  // the exact value lies below the midpoint of its 24-bit neighbours.
  constexpr double kMidpoint = 0x1p-126 - 0x1p-151;
  const double product = static_cast<double>(a) * b;  // exact
  const double sum = product + c;
  const double part = sum - product;
  const double error = (product - (sum - part)) + (c - part);  // exact sum = sum + error
  const double magnitude = std::fabs(sum);
  const double magnitude_error = sum < 0 ? -error : error;
  const bool below = magnitude < kMidpoint || (magnitude == kMidpoint && magnitude_error < 0);
  return below ? std::copysign(0.0f, result) : result;
}

// a(k), b(k) give the k-th BF16 values, widened.
template <typename A, typename B>
float DotBf16(const A& a, const B& b, int n) {
  float lanes[kLanes] = {};
  for (int k = 0; k < n; k += kPairColumns) {
    for (int l = 0; l < kLanes; ++l) {
      for (int at = k + 2 * l + 1; at >= k + 2 * l; --at) {
        const bool inside = at < n;
        lanes[l] = Bf16MultiplyAdd(inside ? a(at) : 0.0f, inside ? b(at) : 0.0f, lanes[l]);
      }
    }
  }
  return SumLanes(lanes);
}

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_BF16_DOT_H_
