// Dot products of integer codes with AVX-512, and with AVX512_VNNI where the file
// is compiled for it; interface in codes_plain.h. OCTOGATE_ISA names the
// namespace. Why nothing saturates without VNNI is said in codes_avx2.h.

#ifndef OCTOGATE_KERNELS_CPU_CODES_AVX512_H_
#define OCTOGATE_KERNELS_CPU_CODES_AVX512_H_

#include <immintrin.h>

#include "kernels/cpu/f32x16_avx512.h"

namespace octogate::kernels::OCTOGATE_ISA {

// A tile keeps its sums, in float and of the group, in registers.
inline constexpr int kMaxTileRows = 8;

struct Codes {
  __m512i v;
};
inline Codes LoadCodes(const uint8_t* from) { return {_mm512_loadu_si512(from)}; }
inline Codes LowNibbles(Codes codes) { return {_mm512_and_si512(codes.v, _mm512_set1_epi8(0x0F))}; }
inline Codes HighNibbles(Codes codes) { return LowNibbles({_mm512_srli_epi16(codes.v, 4)}); }

struct Quad {
  __m512i v;
};
inline Quad BroadcastQuad(const int8_t* from) {
  int bits;
  __builtin_memcpy(&bits, from, sizeof(bits));
  return {_mm512_set1_epi32(bits)};
}

#if defined(__AVX512VNNI__)

template <int kZero>  // the code of zero
struct IntegerDot {
  __m512i v;

  static IntegerDot Start(int32_t x_sum) { return {_mm512_set1_epi32(-kZero * x_sum)}; }
  void Add(Codes codes, Quad x) { v = _mm512_dpbusd_epi32(v, codes.v, x.v); }
  F32x16 Result() const { return {_mm512_cvtepi32_ps(v)}; }
};
using Int8Dot = IntegerDot<128>;
using Int4Dot = IntegerDot<8>;

#else

inline __m512i AddPairs(__m512i pairs) { return _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)); }

struct Int8Dot {
  __m512i v;

  static Int8Dot Start(int32_t /*x_sum*/) { return {_mm512_setzero_si512()}; }
  void Add(Codes codes, Quad x) {
    const __m512i weights = _mm512_xor_si512(codes.v, _mm512_set1_epi8(-128));
    const __m512i signed_x =
        _mm512_mask_sub_epi8(x.v, _mm512_movepi8_mask(weights), _mm512_setzero_si512(), x.v);
    const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(weights), signed_x);
    v = _mm512_add_epi32(v, AddPairs(pairs));
  }
  F32x16 Result() const { return {_mm512_cvtepi32_ps(v)}; }
};

struct Int4Dot {
  __m512i v;  // in 16 bits
  __m512i start;

  static Int4Dot Start(int32_t x_sum) {
    return {_mm512_setzero_si512(), _mm512_set1_epi32(-8 * x_sum)};
  }
  void Add(Codes codes, Quad x) { v = _mm512_add_epi16(v, _mm512_maddubs_epi16(codes.v, x.v)); }
  F32x16 Result() const { return {_mm512_cvtepi32_ps(_mm512_add_epi32(start, AddPairs(v)))}; }
};

#endif

}  // namespace octogate::kernels::OCTOGATE_ISA

#endif  // OCTOGATE_KERNELS_CPU_CODES_AVX512_H_
