// The order of floating-point operations that every CPU path follows, in plain
// scalar form. It is the specification: kernels/reference uses these functions
// as they stand, the SIMD paths (kernels/cpu) are written to give the same bits
// on AVX-512, AVX2 and plain loops, and the tests compare with memcmp.
//
// Arithmetic is IEEE 754 binary32, round to nearest even, with subnormals
// (nothing is flushed to zero) and without contraction other than the fma
// written out. Infinities follow IEEE 754. Where a result is NaN it is NaN on
// every path, but the sign and payload of a NaN are not part of the promise.
//
// Sums over an index k (dot products, sums of squares, sums of weights) keep 16
// lanes: lane l takes k = l, l + 16, l + 32, ... in ascending order, starting
// from +0. If the length is not a multiple of 16, the missing terms of the last
// group are zeros that are accumulated like any other term. The lanes are then
// added in a fixed tree: l with l + 8, with l + 4, with l + 2, with l + 1. One
// sum never has more accumulators than these; speed comes from computing
// several outputs at once.
//
// Weights, keys and values of 16 or 8 bits are widened exactly before they are used, so
// that a BF16 matrix and the same matrix stored as F32 give the same bits.
//
// Attention cuts positions into blocks of kAttentionBlock counted from position
// 0, whatever the pages, chunks or rows. Within a block, over the positions j
// that the row sees:
//   s[j] = scale * dot(q, k[j]);  m = max s[j];  p[j] = Exp(s[j] - m);
//   l = sum of p[j] in lanes j mod 16 (an unseen position adds 0);
//   o[d] = fma(p[j], v[j][d], o[d]) for ascending j, starting from +0.
// Where keys and values are integers with scales a[j] and b[j] (kI8), k and v
// stand for the integers: s[j] = scale * (a[j] * dot), and p[j] * b[j] takes the
// place of p[j] in o[d].
// Blocks are merged in ascending order, beginning with the first one that holds
// a seen position (Merge below); the result is o[d] / l. A row of a tree does
// the same with the positions of its path: only where the keys and values of a
// position lie is different. A row of a bidirectional sequence does what the last
// row of it does.
//
// LayerNorm sums x in lanes, divides by the columns and sums the squares of
// c = x - mean in lanes; out = c * InverseRms(sum) * weight, then + bias.
//
// The log of a sum of exponentials takes the largest value m, sums Exp(x - m) in
// lanes over each block of kLogSumExpBlock columns, adds the blocks' sums in
// ascending order from +0, and is m + Log(sum).

#ifndef OCTOGATE_KERNELS_REDUCTION_ORDER_H_
#define OCTOGATE_KERNELS_REDUCTION_ORDER_H_

#include <cmath>
#include <cstdint>

#include "kernels/elementary.h"
#include "kernels/host_device.h"

namespace octogate::kernels {

inline constexpr int kLanes = 16;
inline constexpr int kAttentionBlock = 256;
inline constexpr int kLogSumExpBlock = 4096;

// The tree over the 16 lanes. Overwrites `lanes`.
OCTOGATE_HOST_DEVICE inline float SumLanes(float* lanes) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

// Sum of n terms; a(k) gives the k-th.
template <typename A>
float Sum(const A& a, int n) {
  float lanes[kLanes] = {};
  for (int k = 0; k < n; k += kLanes) {
    for (int l = 0; l < kLanes; ++l) lanes[l] += k + l < n ? a(k + l) : 0.0f;
  }
  return SumLanes(lanes);
}

// Dot product of `n` pairs; a(k) and b(k) give the k-th factors.
template <typename A, typename B>
float Dot(const A& a, const B& b, int n) {
  float lanes[kLanes] = {};
  for (int k = 0; k < n; k += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      const bool inside = k + l < n;
      lanes[l] = std::fma(inside ? a(k + l) : 0.0f, inside ? b(k + l) : 0.0f, lanes[l]);
    }
  }
  return SumLanes(lanes);
}

// y = dot, then + bias if there is one, then + the previous value of the output
// if it accumulates.
OCTOGATE_HOST_DEVICE inline float FinishDot(float dot, const float* bias, int index,
                                            bool accumulate, float previous) {
  if (bias != nullptr) dot += bias[index];
  return accumulate ? previous + dot : dot;
}

// What multiplies x in RmsNorm before the weight: 1 / sqrt(mean square + eps).
OCTOGATE_HOST_DEVICE inline float InverseRms(float sum_of_squares, int columns, float epsilon) {
  return 1.0f / std::sqrt(sum_of_squares / static_cast<float>(columns) + epsilon);
}

// The factors by which two partial softmax results are scaled when merged:
//   l = fma(l_b, b, l_a * a);  o[d] = fma(o_b[d], b, o_a[d] * a).
struct MergeFactors {
  float max;
  float a;
  float b;
};

OCTOGATE_HOST_DEVICE inline MergeFactors Merge(float max_a, float max_b) {
  const float max = Maximum(max_a, max_b);
  return {max, Exp(max_a - max), Exp(max_b - max)};
}

inline float LogSumExp(float max, float sum) { return std::isinf(max) ? max : max + Log(sum); }

// The first position that a row standing at `position` sees.
OCTOGATE_HOST_DEVICE inline int FirstSeen(int position, int sliding_window) {
  if (sliding_window <= 0 || position < sliding_window) return 0;
  return position - sliding_window + 1;
}

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_REDUCTION_ORDER_H_
