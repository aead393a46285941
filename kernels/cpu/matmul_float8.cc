#define OCTOGATE_ISA avx512vbmi

#include "kernels/cpu/matmul_float8.h"

#include "kernels/cpu/f32x16_avx512.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/quantized_dot.h"
#include "kernels/reduction_order.h"

// After the lanes that it is made of.
#include "kernels/cpu/matmul-inl.h"

namespace octogate::kernels {
namespace avx512vbmi {
namespace {

// Of the floats that are codes times 2^-8, by code without its sign, the upper two bytes; the lower
// two are zero.
struct WidenedCodes {
  alignas(64) uint8_t third[128];
  alignas(64) uint8_t fourth[128];
};
constexpr WidenedCodes WidenCodes() {
  WidenedCodes widened{};
  for (int code = 0; code < 128; ++code) {
    const int exponent = code >> 3;
    const int mantissa = exponent == 0 ? code & 7 : 8 | (code & 7);
    float value = static_cast<float>(mantissa) * 0x1p-17f;
    for (int e = 1; e < exponent; ++e) value *= 2;
    const auto bits = __builtin_bit_cast(uint32_t, value);
    widened.third[code] = static_cast<uint8_t>(bits >> 16);
    widened.fourth[code] = static_cast<uint8_t>(bits >> 24);
  }
  return widened;
}
constexpr WidenedCodes kWidened = WidenCodes();

// By vector of sixteen floats, which of 64 third bytes, followed by 64 fourth bytes, stands where.
struct BytePlaces {
  alignas(64) uint8_t from[4][64];
};
constexpr BytePlaces PlaceBytes() {
  BytePlaces places{};
  for (int i = 0; i < 64; ++i) {
    places.from[i / 16][i % 16 * 4 + 2] = static_cast<uint8_t>(i);
    places.from[i / 16][i % 16 * 4 + 3] = static_cast<uint8_t>(64 + i);
  }
  return places;
}
constexpr BytePlaces kPlaces = PlaceBytes();

// Two pairs of columns, each for sixteen outputs.
inline void WidenPairs(const uint8_t* from, Pair (&to)[2]) {
  const __m512i codes = _mm512_loadu_si512(from);
  const auto look_up = [&](const uint8_t* table) {
    return _mm512_permutex2var_epi8(_mm512_load_si512(table), codes, _mm512_load_si512(table + 64));
  };
  const __m512i third = look_up(kWidened.third);
  constexpr int kAOrBAndC = 0xF8;
  const __m512i fourth =
      _mm512_ternarylogic_epi32(look_up(kWidened.fourth), codes, _mm512_set1_epi8(-128), kAOrBAndC);
  const auto place = [&](int vector) -> F32x16 {
    constexpr __mmask64 kUpperBytes = 0xCCCCCCCCCCCCCCCCu;
    const __m512i places = _mm512_load_si512(kPlaces.from[vector]);
    return {
        _mm512_castsi512_ps(_mm512_maskz_permutex2var_epi8(kUpperBytes, third, places, fourth))};
  };
  to[0] = {place(0), place(1)};
  to[1] = {place(2), place(3)};
}

void MatMulRow(const MatMulArgs& args, int begin, int end, float* sums) {
  const int whole_groups = args.cols / kLanes;
  const int left = args.cols % kLanes;
  float last_inputs[kLanes];
  if (left > 0) Store(LoadPartial(args.x + args.cols - left, left), last_inputs);
  for (int n = begin; n < end; ++n) {
    const uint8_t* codes = args.panels + static_cast<size_t>(n) * args.panel_bytes;
    F32x16 lanes[kLanes];
    OCTOGATE_UNROLL
    for (int l = 0; l < kLanes; ++l) lanes[l] = Zero();
    for (int g = 0; g < whole_groups + (left > 0 ? 1 : 0); ++g) {
      const float* const x =
          g < whole_groups ? args.x + static_cast<size_t>(g) * kLanes : last_inputs;
      OCTOGATE_UNROLL
      for (int l = 0; l < kLanes; l += 4, codes += 64) {
        __builtin_prefetch(codes + StreamAhead(1));
        Pair pairs[2];
        WidenPairs(codes, pairs);
        lanes[l] = Fma(Broadcast(x[l]), pairs[0].even, lanes[l]);
        lanes[l + 1] = Fma(Broadcast(x[l + 1]), pairs[0].odd, lanes[l + 1]);
        lanes[l + 2] = Fma(Broadcast(x[l + 2]), pairs[1].even, lanes[l + 2]);
        lanes[l + 3] = Fma(Broadcast(x[l + 3]), pairs[1].odd, lanes[l + 3]);
      }
    }
    OCTOGATE_UNROLL
    for (int l = 0; l < kLanes; ++l) Store(lanes[l], sums + l * kPanelOutputs);
    FinishPanel(args, 0, n, sums);
  }
}

}  // namespace
}  // namespace avx512vbmi

void MatMulAvx512Vbmi(const MatMulArgs& args, int begin, int end, float* scratch) {
  if (args.dtype == DType::kF8E4M3 && args.rows == 1) {
    return avx512vbmi::MatMulRow(args, begin, end, scratch);
  }
  static const auto matmul = Avx512Kernels().matmul;
  matmul(args, begin, end, scratch);
}

}  // namespace octogate::kernels
