// Codes of E4M3 (kernels/float8.h), looked up as bytes with AVX512_VBMI. Only for files compiled
// for that. OCTOGATE_ISA names the namespace.

#ifndef OCTOGATE_KERNELS_CPU_FLOAT8_CODES_AVX512VBMI_H_
#define OCTOGATE_KERNELS_CPU_FLOAT8_CODES_AVX512VBMI_H_

#include <immintrin.h>

#include <cstdint>

namespace octogate::kernels::OCTOGATE_ISA {

// The two bytes of the BF16 numbers that are codes times 2^-8, by code without its sign: the upper
// half of a float, whose lower half is zero.
struct WidenedCodes {
  alignas(64) uint8_t low[128];
  alignas(64) uint8_t high[128];
};
constexpr WidenedCodes WidenCodes() {
  WidenedCodes widened{};
  for (int code = 0; code < 128; ++code) {
    const int exponent = code >> 3;
    const int mantissa = exponent == 0 ? code & 7 : 8 | (code & 7);
    float value = static_cast<float>(mantissa) * 0x1p-17f;
    for (int e = 1; e < exponent; ++e) value *= 2;
    const auto bits = __builtin_bit_cast(uint32_t, value);
    widened.low[code] = static_cast<uint8_t>(bits >> 16);
    widened.high[code] = static_cast<uint8_t>(bits >> 24);
  }
  return widened;
}
inline constexpr WidenedCodes kWidened = WidenCodes();

struct CodeBytes {
  __m512i low;
  __m512i high;
};

// Of 64 codes, none of which is a NaN.
inline CodeBytes LookUpCodes(const uint8_t* from) {
  const __m512i codes = _mm512_loadu_si512(from);
  const auto look_up = [&](const uint8_t* table) {
    return _mm512_permutex2var_epi8(_mm512_load_si512(table), codes, _mm512_load_si512(table + 64));
  };
  constexpr int kAOrBAndC = 0xF8;
  return {look_up(kWidened.low), _mm512_ternarylogic_epi32(look_up(kWidened.high), codes,
                                                           _mm512_set1_epi8(-128), kAOrBAndC)};
}

}  // namespace octogate::kernels::OCTOGATE_ISA

#endif  // OCTOGATE_KERNELS_CPU_FLOAT8_CODES_AVX512VBMI_H_
