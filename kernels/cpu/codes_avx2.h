// Dot products of integer codes with AVX2; interface in codes_plain.h.
//
// vpmaddubsw multiplies unsigned by signed bytes and adds pairs in 16 bits with
// saturation. Nothing saturates: eight-bit codes enter as their magnitudes, at
// most 127, with the signs moved to x (2 * 127 * 127 < 2^15); four-bit codes are
// below 16, so that the pairs of a whole group fit (8 * 2 * 15 * 127 < 2^15).

#ifndef OCTOGATE_KERNELS_CPU_CODES_AVX2_H_
#define OCTOGATE_KERNELS_CPU_CODES_AVX2_H_

#include <immintrin.h>

#include "kernels/cpu/f32x16_avx2.h"

namespace octogate::kernels::avx2 {

inline constexpr int kMaxTileRows = 2;

struct Codes {
  __m256i low;
  __m256i high;
};
inline Codes LoadCodes(const uint8_t* from) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32))};
}
inline Codes LowNibbles(Codes codes) {
  const __m256i mask = _mm256_set1_epi8(0x0F);
  return {_mm256_and_si256(codes.low, mask), _mm256_and_si256(codes.high, mask)};
}
inline Codes HighNibbles(Codes codes) {
  return LowNibbles({_mm256_srli_epi16(codes.low, 4), _mm256_srli_epi16(codes.high, 4)});
}

struct Quad {
  __m256i v;
};
inline Quad BroadcastQuad(const int8_t* from) {
  int bits;
  __builtin_memcpy(&bits, from, sizeof(bits));
  return {_mm256_set1_epi32(bits)};
}

inline __m256i AddPairs(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

struct Int8Dot {
  __m256i low;
  __m256i high;

  static Int8Dot Start(int32_t /*x_sum*/) {
    return {_mm256_setzero_si256(), _mm256_setzero_si256()};
  }
  void Add(Codes codes, Quad x) {
    low = _mm256_add_epi32(low, Products(codes.low, x.v));
    high = _mm256_add_epi32(high, Products(codes.high, x.v));
  }
  F32x16 Result() const { return {_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)}; }

 private:
  static __m256i Products(__m256i codes, __m256i x) {
    const __m256i weights = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
    return AddPairs(_mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights)));
  }
};

struct Int4Dot {
  __m256i low;  // in 16 bits
  __m256i high;
  __m256i start;

  static Int4Dot Start(int32_t x_sum) {
    return {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_set1_epi32(-8 * x_sum)};
  }
  void Add(Codes codes, Quad x) {
    low = _mm256_add_epi16(low, _mm256_maddubs_epi16(codes.low, x.v));
    high = _mm256_add_epi16(high, _mm256_maddubs_epi16(codes.high, x.v));
  }
  F32x16 Result() const {
    return {_mm256_cvtepi32_ps(_mm256_add_epi32(start, AddPairs(low))),
            _mm256_cvtepi32_ps(_mm256_add_epi32(start, AddPairs(high)))};
  }
};

}  // namespace octogate::kernels::avx2

#endif  // OCTOGATE_KERNELS_CPU_CODES_AVX2_H_
