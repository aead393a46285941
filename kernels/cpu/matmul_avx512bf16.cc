#define OCTOGATE_ISA avx512bf16

#include "kernels/cpu/matmul_avx512bf16.h"

#include "kernels/bf16_dot.h"
#include "kernels/cpu/f32x16_avx512.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/quantized_dot.h"
#include "kernels/reduction_order.h"

namespace octogate::kernels::avx512bf16 {

inline constexpr int kPairStreamedRows = 4;
inline constexpr int kPairOnePanelRows = 12;
inline constexpr int kPairPanels = 2;
inline constexpr int kPairTileRows = 12;
constexpr int PairTileLanes(int rows, int panels) {
  return panels == 1 && rows <= kPairStreamedRows ? kBf16PairLanes : 1;
}

struct Bf16Pairs {
  __m512bh v;
};

inline Bf16Pairs LoadPairs(const uint8_t* from) {
  return {reinterpret_cast<__m512bh>(_mm512_loadu_si512(from))};
}
inline Bf16Pairs BroadcastPair(const uint8_t* from) {
  int pair;
  __builtin_memcpy(&pair, from, sizeof(pair));
  return {reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair))};
}
inline F32x16 AddPairs(Bf16Pairs a, Bf16Pairs b, F32x16 sum) {
  return {_mm512_dpbf16_ps(sum.v, a.v, b.v)};
}

}  // namespace octogate::kernels::avx512bf16

// After what they are made of.
// clang-format off
#include "kernels/cpu/matmul-inl.h"
#include "kernels/cpu/matmul_bf16-inl.h"
#include "kernels/cpu/matmul_pairs-inl.h"
// clang-format on

namespace octogate::kernels {

Bf16Products Avx512Bf16Pairs() {
  return {.rows_together = avx512bf16::kPairBlockRows,
          .row_bytes = avx512bf16::RoundedPairsBytes,
          .round_inputs = avx512bf16::RoundPairs,
          .matmul = avx512bf16::MatMulPairs};
}

}  // namespace octogate::kernels
