// Sixteen float lanes in two AVX registers; interface in f32x16_plain.h. Only
// for files compiled for AVX2, FMA and F16C.

#ifndef OCTOGATE_KERNELS_CPU_F32X16_AVX2_H_
#define OCTOGATE_KERNELS_CPU_F32X16_AVX2_H_

#include <immintrin.h>

#include "kernels/cpu/kernel_table.h"
#include "kernels/dtype.h"
#include "kernels/elementary.h"
#include "kernels/reduction_order.h"

namespace octogate::kernels::avx2 {

inline constexpr int kDenseTileRows = 2;
constexpr int DenseTilePairs(int rows) { return rows == 1 ? 2 : 1; }
inline constexpr int kManyRowsTile = 6;
inline constexpr int kManyRowsPanels = 1;
inline constexpr int kStreamedRows = 1;
constexpr int Bf16TilePanels(int /*rows*/) { return 1; }

struct F32x16 {
  __m256 low;
  __m256 high;
};
struct Pair {
  F32x16 even;
  F32x16 odd;
};

inline F32x16 Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline F32x16 Broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F32x16 Load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
inline F32x16 LoadPartial(const float* from, int n) {
  alignas(32) float lanes[kLanes] = {};
  __builtin_memcpy(lanes, from, static_cast<size_t>(n) * sizeof(float));
  return Load(lanes);
}
inline void Store(F32x16 x, float* to) {
  _mm256_storeu_ps(to, x.low);
  _mm256_storeu_ps(to + 8, x.high);
}
inline void StorePartial(F32x16 x, float* to, int n) {
  alignas(32) float lanes[kLanes];
  Store(x, lanes);
  __builtin_memcpy(to, lanes, static_cast<size_t>(n) * sizeof(float));
}

// The E4M3 numbers of kernels/float8.h as F16 numbers 2^8 times too small.
inline __m256i Float8ToFloat16Bits(__m128i narrow) {
  const __m256i wide = _mm256_cvtepi8_epi16(narrow);  // the sign is in the highest bit again
  const __m256i sign = _mm256_and_si256(wide, _mm256_set1_epi16(static_cast<int16_t>(0x8000)));
  const __m256i magnitude = _mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16(0x3F80));
  const __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x3F80)),
                                       _mm256_set1_epi16(0x7E00));
  return _mm256_or_si256(_mm256_or_si256(sign, magnitude), nan);
}
inline F32x16 WidenFloat8(__m128i narrow) {
  const __m256i bits = Float8ToFloat16Bits(narrow);
  const __m256 shift = _mm256_set1_ps(256);
  return {_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(bits)), shift),
          _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(bits, 1)), shift)};
}
inline F32x16 WidenInt8(__m128i narrow) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(narrow)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(narrow, 8)))};
}
template <DType T>
inline __m256 WidenBits(__m128i narrow) {
  if constexpr (T == DType::kF16) return _mm256_cvtph_ps(narrow);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16));
}
template <DType T>
inline F32x16 Widen(const void* from) {
  if constexpr (T == DType::kF32) {
    const auto* floats = static_cast<const __m256i_u*>(from);
    return {_mm256_castsi256_ps(_mm256_loadu_si256(floats)),
            _mm256_castsi256_ps(_mm256_loadu_si256(floats + 1))};
  } else if constexpr (SizeOf(T) == 1) {
    const __m128i narrow = _mm_loadu_si128(static_cast<const __m128i*>(from));
    return T == DType::kI8 ? WidenInt8(narrow) : WidenFloat8(narrow);
  } else {
    const auto* halves = static_cast<const __m128i_u*>(from);
    return {WidenBits<T>(_mm_loadu_si128(halves)), WidenBits<T>(_mm_loadu_si128(halves + 1))};
  }
}
template <DType T>
inline F32x16 WidenPartial(const void* from, int n) {
  alignas(32) unsigned char bytes[kLanes * SizeOf(T)] = {};
  __builtin_memcpy(bytes, from, static_cast<size_t>(n) * SizeOf(T));
  return Widen<T>(bytes);
}

inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline F32x16 operator+(F32x16 a, F32x16 b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
inline F32x16 operator-(F32x16 a, F32x16 b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
inline F32x16 operator*(F32x16 a, F32x16 b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
inline F32x16 operator/(F32x16 a, F32x16 b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
inline F32x16 Minimum(F32x16 a, F32x16 b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
inline F32x16 Maximum(F32x16 a, F32x16 b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
inline F32x16 Abs(F32x16 x) {
  const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  return {_mm256_and_ps(x.low, mask), _mm256_and_ps(x.high, mask)};
}

inline __m256 ScaleHalf(__m256 y, __m256 rounded) {
  const __m256i rounder = _mm256_castps_si256(_mm256_set1_ps(exp_constants::kRounder));
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256i n = _mm256_sub_epi32(_mm256_castps_si256(rounded), rounder);
  const __m256i first = _mm256_srai_epi32(n, 1);
  const __m256i second = _mm256_sub_epi32(n, first);
  const __m256i factor1 = _mm256_slli_epi32(_mm256_add_epi32(first, bias), 23);
  const __m256i factor2 = _mm256_slli_epi32(_mm256_add_epi32(second, bias), 23);
  return _mm256_mul_ps(_mm256_mul_ps(y, _mm256_castsi256_ps(factor1)),
                       _mm256_castsi256_ps(factor2));
}
inline F32x16 ScaleByPowerOfTwo(F32x16 y, F32x16 rounded) {
  return {ScaleHalf(y.low, rounded.low), ScaleHalf(y.high, rounded.high)};
}

inline float SumLanes(F32x16 x) {
  const __m256 eight = _mm256_add_ps(x.low, x.high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float MaximumLane(F32x16 x) {
  float lanes[kLanes];
  Store(x, lanes);
  float max = lanes[0];
  for (int l = 1; l < kLanes; ++l) max = lanes[l] > max ? lanes[l] : max;
  return max;
}

// The tree for eight vectors, packing two into one at every step.
inline __m256 SumLanes8Vectors(const F32x16* x) {
  __m256 eight[8];
  for (int i = 0; i < 8; ++i) eight[i] = _mm256_add_ps(x[i].low, x[i].high);
  __m256 four[4];  // 128-bit halves: 4 lanes of i, 4 lanes of i + 4
  for (int i = 0; i < 4; ++i) {
    const __m256 low = _mm256_permute2f128_ps(eight[i], eight[i + 4], 0x20);
    const __m256 high = _mm256_permute2f128_ps(eight[i], eight[i + 4], 0x31);
    four[i] = _mm256_add_ps(low, high);
  }
  __m256 two[2];  // in each half: 2 lanes of i, 2 lanes of i + 2
  for (int i = 0; i < 2; ++i) {
    const __m256 low = _mm256_shuffle_ps(four[i], four[i + 2], 0x44);
    const __m256 high = _mm256_shuffle_ps(four[i], four[i + 2], 0xEE);
    two[i] = _mm256_add_ps(low, high);
  }
  const __m256 even = _mm256_shuffle_ps(two[0], two[1], 0x88);
  const __m256 odd = _mm256_shuffle_ps(two[0], two[1], 0xDD);
  return _mm256_permutevar8x32_ps(_mm256_add_ps(even, odd),  // 0, 2, 1, 3, 4, 6, 5, 7
                                  _mm256_setr_epi32(0, 2, 1, 3, 4, 6, 5, 7));
}
inline F32x16 SumLanes16(const F32x16* x) { return {SumLanes8Vectors(x), SumLanes8Vectors(x + 8)}; }

// Flushes subnormals to zero, before and after, while it lives.
class SubnormalsFlushed {
 public:
  SubnormalsFlushed() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040u); }
  ~SubnormalsFlushed() { _mm_setcsr(saved_); }
  SubnormalsFlushed(const SubnormalsFlushed&) = delete;
  SubnormalsFlushed& operator=(const SubnormalsFlushed&) = delete;

 private:
  unsigned saved_;
};

// Codes of E4M3 in the upper bytes; no code is a NaN. Their bits go to the place of F16's; the
// sign's copy, which then stands where F16 has one more bit of exponent, is cleared, and so is what
// was in the lower bytes.
inline __m256 WidenFloat8Codes(__m128i upper) {
  return _mm256_cvtph_ps(
      _mm_and_si128(_mm_srai_epi16(upper, 1), _mm_set1_epi16(static_cast<short>(0xBF80))));
}
// One of two pairs of columns, four outputs of which stand beside four of the other's.
inline Pair WidenFloat8Pair(const uint8_t* from) {
  const auto eight_outputs = [&](int at) {
    long long first;
    long long second;
    __builtin_memcpy(&first, from + at, sizeof(first));
    __builtin_memcpy(&second, from + at + 16, sizeof(second));
    return _mm_set_epi64x(second, first);
  };
  const __m128i low = eight_outputs(0);
  const __m128i high = eight_outputs(32);
  return {{WidenFloat8Codes(_mm_slli_epi16(low, 8)), WidenFloat8Codes(_mm_slli_epi16(high, 8))},
          {WidenFloat8Codes(low), WidenFloat8Codes(high)}};
}

template <DType T>
inline Pair LoadPair(const uint8_t* from) {
  if constexpr (T == DType::kBF16) {
    const auto* words = reinterpret_cast<const __m256i_u*>(from);
    const __m256i low = _mm256_loadu_si256(words);
    const __m256i high = _mm256_loadu_si256(words + 1);
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xFFFF0000u));
    return {{_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)),
             _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))},
            {_mm256_castsi256_ps(_mm256_and_si256(low, upper)),
             _mm256_castsi256_ps(_mm256_and_si256(high, upper))}};
  } else if constexpr (T == DType::kF8E4M3) {
    return WidenFloat8Pair(from);
  } else {
    return {Widen<T>(from), Widen<T>(from + kLanes * SizeOf(T))};
  }
}

template <DType T>
inline constexpr int kPairsTogether = 1;
template <DType T>
inline void LoadPairs(const uint8_t* from, Pair (&to)[kPairsTogether<T>]) {
  to[0] = LoadPair<T>(from);
}

inline F32x16 FmaFlushed(F32x16 a, F32x16 b, F32x16 c) { return Fma(a, b, c); }
inline F32x16 AddFlushed(F32x16 a, F32x16 b) { return a + b; }

}  // namespace octogate::kernels::avx2

#endif  // OCTOGATE_KERNELS_CPU_F32X16_AVX2_H_
