#define OCTOGATE_ISA avx512vbmi

#include "kernels/cpu/matmul_float8.h"

#include "kernels/cpu/f32x16_avx512.h"
#include "kernels/cpu/float8_codes_avx512vbmi.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/quantized_dot.h"
#include "kernels/reduction_order.h"

// After the lanes that it is made of.
#include "kernels/cpu/matmul-inl.h"

namespace octogate::kernels {
namespace avx512vbmi {
namespace {

// By vector of sixteen floats, one column of a pair, which of 64 low bytes, followed by 64 high
// bytes, stands where.
struct BytePlaces {
  alignas(64) uint8_t from[4][64];
};
constexpr BytePlaces PlaceBytes() {
  BytePlaces places{};
  for (int i = 0; i < 64; ++i) {
    const int pair = i / 8 % 2;
    const int output = i / 16 * 4 + i % 8 / 2;
    places.from[2 * pair + i % 2][4 * output + 2] = static_cast<uint8_t>(i);
    places.from[2 * pair + i % 2][4 * output + 3] = static_cast<uint8_t>(64 + i);
  }
  return places;
}
constexpr BytePlaces kPlaces = PlaceBytes();

// Two pairs of columns, each for sixteen outputs.
inline void WidenPairs(const uint8_t* from, Pair (&to)[2]) {
  const CodeBytes bytes = LookUpCodes(from);
  const auto place = [&](int vector) -> F32x16 {
    constexpr __mmask64 kUpperBytes = 0xCCCCCCCCCCCCCCCCu;
    const __m512i places = _mm512_load_si512(kPlaces.from[vector]);
    return {_mm512_castsi512_ps(
        _mm512_maskz_permutex2var_epi8(kUpperBytes, bytes.low, places, bytes.high))};
  };
  to[0] = {place(0), place(1)};
  to[1] = {place(2), place(3)};
}

void MatMulRow(const MatMulArgs& args, int begin, int end, float* sums) {
  const auto* const inputs = static_cast<const float*>(args.x);
  const int whole_groups = args.cols / kLanes;
  const int left = args.cols % kLanes;
  float last_inputs[kLanes];
  if (left > 0) Store(LoadPartial(inputs + args.cols - left, left), last_inputs);
  for (int n = begin; n < end; ++n) {
    const uint8_t* codes = args.panels + static_cast<size_t>(n) * args.panel_bytes;
    F32x16 lanes[kLanes];
    OCTOGATE_UNROLL
    for (int l = 0; l < kLanes; ++l) lanes[l] = Zero();
    for (int g = 0; g < whole_groups + (left > 0 ? 1 : 0); ++g) {
      const float* const x =
          g < whole_groups ? inputs + static_cast<size_t>(g) * kLanes : last_inputs;
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
    FinishPanel<kLanes>(args, 0, n, sums);
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
