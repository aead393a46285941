// Dot products of BF16 values, in plain scalar form, in two orders. Used where
// activations are rounded to BF16 (CpuBackendOptions); every instruction set gives
// these bits. Codes of FP8 are BF16 values, too (kernels/quantized_dot.h).
//
// DotBf16 is what the instruction TDPBF16PS of Intel's AMX computes, at sixteen
// times the rate of multiply-adds of floats (Intel 64 and IA-32 Architectures
// Software Developer's Manual, volume 2). Columns are cut into blocks of 32, the last
// filled with zeros. In each block the products of even columns are added in
// ascending order, starting from +0, and so are those of odd columns, each with one
// rounding; the two sums are added, and then added to the sum of the blocks before,
// which starts from +0.
//
// DotBf16Pairs is what VDPBF16PS of AVX512_BF16 computes, at twice their rate (the
// same manual). Columns go in pairs, filled with zeros up to blocks of 32 columns. Of four lanes,
// lane l takes pairs l, l + 4, l + 8, ... in ascending order, starting from +0; of
// a pair the product of the odd column is added first, then that of the even one,
// each with one rounding. The lanes are added like those of
// kernels/reduction_order.h: l with l + 2, with l + 1.
//
// Unlike everything else in kernels/, these steps flush subnormals to zero, the sum of
// the four lanes excepted: operands before use, and a result that is below 2^-126
// after rounding to 24 bits as if exponents had no lower end.

#ifndef OCTOGATE_KERNELS_BF16_DOT_H_
#define OCTOGATE_KERNELS_BF16_DOT_H_

#include <cmath>

namespace octogate::kernels {

inline constexpr int kBf16DotBlock = 32;
inline constexpr int kBf16PairLanes = 4;

// Wider weights keep activations in F32, so that scratch memory is bounded.
inline constexpr int kMaxBf16Columns = 1 << 16;

inline float FlushSubnormal(float x) {
  return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x;
}

// One product of a block: a and b are BF16 values.
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

// A sum that is subnormal is exact, hence no question of rounding.
inline float Bf16Add(float a, float b) {
  return FlushSubnormal(FlushSubnormal(a) + FlushSubnormal(b));
}

// a(k), b(k) give the k-th BF16 values, widened.
template <typename A, typename B>
float DotBf16(const A& a, const B& b, int n) {
  float sum = 0;
  for (int block = 0; block < n; block += kBf16DotBlock) {
    float parts[2] = {0, 0};
    for (int k = block; k < block + kBf16DotBlock; ++k) {
      float& part = parts[k % 2];
      part = Bf16MultiplyAdd(k < n ? a(k) : 0.0f, k < n ? b(k) : 0.0f, part);
    }
    sum = Bf16Add(sum, Bf16Add(parts[0], parts[1]));
  }
  return sum;
}

template <typename A, typename B>
float DotBf16Pairs(const A& a, const B& b, int n) {
  float lanes[kBf16PairLanes] = {};
  const int padded = (n + kBf16DotBlock - 1) / kBf16DotBlock * kBf16DotBlock;
  for (int k = 0; k < padded; k += 2) {
    float& lane = lanes[k / 2 % kBf16PairLanes];
    for (const int column : {k + 1, k}) {
      lane = Bf16MultiplyAdd(column < n ? a(column) : 0.0f, column < n ? b(column) : 0.0f, lane);
    }
  }
  for (int half = kBf16PairLanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_BF16_DOT_H_
