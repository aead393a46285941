// Sixteen float lanes in one AVX-512 register; interface in f32x16_plain.h.
// Only for files compiled for AVX-512F/BW/VL/DQ. OCTOGATE_ISA names the namespace.

#ifndef OCTOGATE_KERNELS_CPU_F32X16_AVX512_H_
#define OCTOGATE_KERNELS_CPU_F32X16_AVX512_H_

#include <immintrin.h>

#include "kernels/cpu/kernel_table.h"
#include "kernels/dtype.h"
#include "kernels/elementary.h"
#include "kernels/reduction_order.h"

namespace octogate::kernels::OCTOGATE_ISA {

inline constexpr int kDenseTileRows = 4;
constexpr int DenseTilePairs(int rows) { return rows == 1 ? 8 : rows <= 3 ? 4 : 2; }
inline constexpr int kManyRowsTile = 12;
inline constexpr int kManyRowsPanels = 2;
inline constexpr int kStreamedRows = 2;
constexpr int Bf16TilePanels(int rows) { return rows == 1 ? 4 : rows <= 4 ? 2 : 1; }

struct F32x16 {
  __m512 v;
};
struct Pair {
  F32x16 even;
  F32x16 odd;
};

inline __mmask16 FirstLanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }

inline F32x16 Zero() { return {_mm512_setzero_ps()}; }
inline F32x16 Broadcast(float x) { return {_mm512_set1_ps(x)}; }
inline F32x16 Load(const float* from) { return {_mm512_loadu_ps(from)}; }
inline F32x16 LoadPartial(const float* from, int n) {
  return {_mm512_maskz_loadu_ps(FirstLanes(n), from)};
}
inline void Store(F32x16 x, float* to) { _mm512_storeu_ps(to, x.v); }
inline void StorePartial(F32x16 x, float* to, int n) {
  _mm512_mask_storeu_ps(to, FirstLanes(n), x.v);
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
  return {_mm512_mul_ps(_mm512_cvtph_ps(Float8ToFloat16Bits(narrow)), _mm512_set1_ps(256))};
}
inline F32x16 WidenInt8(__m128i narrow) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(narrow))};
}
template <DType T>
inline F32x16 WidenBits(__m256i narrow) {
  if constexpr (T == DType::kF16) return {_mm512_cvtph_ps(narrow)};
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16))};
}
template <DType T>
inline F32x16 Widen(const void* from) {
  if constexpr (T == DType::kF32) {
    return {_mm512_loadu_ps(from)};
  } else if constexpr (SizeOf(T) == 1) {
    const __m128i narrow = _mm_loadu_si128(static_cast<const __m128i*>(from));
    return T == DType::kI8 ? WidenInt8(narrow) : WidenFloat8(narrow);
  } else {
    return WidenBits<T>(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
  }
}
template <DType T>
inline F32x16 WidenPartial(const void* from, int n) {
  if constexpr (T == DType::kF32) {
    return {_mm512_maskz_loadu_ps(FirstLanes(n), from)};
  } else if constexpr (SizeOf(T) == 1) {
    const __m128i narrow = _mm_maskz_loadu_epi8(FirstLanes(n), from);
    return T == DType::kI8 ? WidenInt8(narrow) : WidenFloat8(narrow);
  } else {
    return WidenBits<T>(_mm256_maskz_loadu_epi16(FirstLanes(n), from));
  }
}

inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F32x16 operator+(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32x16 operator-(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32x16 operator*(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32x16 operator/(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F32x16 Minimum(F32x16 a, F32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F32x16 Maximum(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F32x16 Abs(F32x16 x) {
  return {_mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(x.v), _mm512_set1_epi32(0x7FFFFFFF)))};
}

inline F32x16 ScaleByPowerOfTwo(F32x16 y, F32x16 rounded) {
  const __m512i rounder = _mm512_castps_si512(_mm512_set1_ps(exp_constants::kRounder));
  const __m512i bias = _mm512_set1_epi32(127);
  const __m512i n = _mm512_sub_epi32(_mm512_castps_si512(rounded.v), rounder);
  const __m512i first = _mm512_srai_epi32(n, 1);
  const __m512i second = _mm512_sub_epi32(n, first);
  const __m512i factor1 = _mm512_slli_epi32(_mm512_add_epi32(first, bias), 23);
  const __m512i factor2 = _mm512_slli_epi32(_mm512_add_epi32(second, bias), 23);
  return {_mm512_mul_ps(_mm512_mul_ps(y.v, _mm512_castsi512_ps(factor1)),
                        _mm512_castsi512_ps(factor2))};
}

// The last three steps of the tree, on 8 lanes.
inline float SumLanes8(__m256 x) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline __m256 UpperHalf(__m512 x) {
  return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
}
inline float SumLanes(F32x16 x) {
  return SumLanes8(_mm256_add_ps(_mm512_castps512_ps256(x.v), UpperHalf(x.v)));
}
inline float MaximumLane(F32x16 x) {
  float lanes[kLanes];
  Store(x, lanes);
  float max = lanes[0];
  for (int l = 1; l < kLanes; ++l) max = lanes[l] > max ? lanes[l] : max;
  return max;
}

// Each step adds the two halves of every vector and packs two vectors into one,
// so that 15 additions replace 16 * 4.
inline F32x16 SumLanes16(const F32x16* x) {
  __m512 eight[8];  // [lanes 0..7 of x[i] | of x[i + 8]]
  for (int i = 0; i < 8; ++i) {
    const __m512 low = _mm512_shuffle_f32x4(x[i].v, x[i + 8].v, 0x44);
    const __m512 high = _mm512_shuffle_f32x4(x[i].v, x[i + 8].v, 0xEE);
    eight[i] = _mm512_add_ps(low, high);
  }
  __m512 four[4];  // 4 lanes each of i, i + 4, i + 8, i + 12 (in this order)
  for (int i = 0; i < 4; ++i) {
    const __m512 low = _mm512_shuffle_f32x4(eight[i], eight[i + 4], 0x88);
    const __m512 high = _mm512_shuffle_f32x4(eight[i], eight[i + 4], 0xDD);
    four[i] = _mm512_add_ps(low, high);  // i, i + 8, i + 4, i + 12
  }
  __m512 two[2];  // in each 128 bits: 2 lanes of i, 2 lanes of i + 2
  for (int i = 0; i < 2; ++i) {
    const __m512 low = _mm512_shuffle_ps(four[i], four[i + 2], 0x44);
    const __m512 high = _mm512_shuffle_ps(four[i], four[i + 2], 0xEE);
    two[i] = _mm512_add_ps(low, high);
  }
  const __m512 even = _mm512_shuffle_ps(two[0], two[1], 0x88);
  const __m512 odd = _mm512_shuffle_ps(two[0], two[1], 0xDD);
  const __m512 sums = _mm512_add_ps(even, odd);  // in each 128 bits: 0, 2, 1, 3 (+ base)
  // 128-bit groups hold the bases 0, 8, 4, 12.
  const __m512i order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
  return {_mm512_permutexvar_ps(order, sums)};
}

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
inline F32x16 WidenFloat8Codes(__m256i upper) {
  return {_mm512_cvtph_ps(_mm256_and_si256(_mm256_srai_epi16(upper, 1),
                                           _mm256_set1_epi16(static_cast<short>(0xBF80))))};
}

template <DType T>
inline Pair LoadPair(const uint8_t* from) {
  if constexpr (T == DType::kBF16) {
    const __m512i both = _mm512_loadu_si512(from);
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000u));
    return {{_mm512_castsi512_ps(_mm512_slli_epi32(both, 16))},
            {_mm512_castsi512_ps(_mm512_and_si512(both, upper))}};
  } else {
    return {Widen<T>(from), Widen<T>(from + kLanes * SizeOf(T))};
  }
}

template <DType T>
inline constexpr int kPairsTogether = T == DType::kF8E4M3 ? 2 : 1;
template <DType T>
inline void LoadPairs(const uint8_t* from, Pair (&to)[kPairsTogether<T>]) {
  if constexpr (T == DType::kF8E4M3) {
    // The outputs of one pair, and then those of the other.
    const auto* halves = reinterpret_cast<const __m256i_u*>(from);
    const __m256i low = _mm256_loadu_si256(halves);
    const __m256i high = _mm256_loadu_si256(halves + 1);
    const __m256i pairs[2] = {_mm256_permutex2var_epi64(low, _mm256_setr_epi64x(0, 2, 4, 6), high),
                              _mm256_permutex2var_epi64(low, _mm256_setr_epi64x(1, 3, 5, 7), high)};
    for (int i = 0; i < 2; ++i) {
      to[i] = {WidenFloat8Codes(_mm256_slli_epi16(pairs[i], 8)), WidenFloat8Codes(pairs[i])};
    }
  } else {
    to[0] = LoadPair<T>(from);
  }
}

inline F32x16 FmaFlushed(F32x16 a, F32x16 b, F32x16 c) { return Fma(a, b, c); }
inline F32x16 AddFlushed(F32x16 a, F32x16 b) { return a + b; }

}  // namespace octogate::kernels::OCTOGATE_ISA

#endif  // OCTOGATE_KERNELS_CPU_F32X16_AVX512_H_
