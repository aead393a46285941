#define OCTOGATE_ISA avx512bf16

#include "kernels/cpu/matmul_avx512bf16.h"

#include "kernels/bf16_dot.h"
#include "kernels/cpu/f32x16_avx512.h"
#include "kernels/cpu/float8_codes_avx512vbmi.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/quantized_dot.h"
#include "kernels/reduction_order.h"

namespace octogate::kernels::avx512bf16 {

struct Bf16Pairs {
  __m512bh v;
};

template <DType T>
struct PackedTiles;
template <>
struct PackedTiles<DType::kBF16> {
  static constexpr int kStreamedRows = 4;
  static constexpr int kOnePanelRows = 12;
  static constexpr int kPanels = 2;
  static constexpr int kRows = 12;
  static constexpr int Lanes(int rows, int panels) {
    return panels == 1 && rows <= kStreamedRows ? kBf16PairLanes : 1;
  }
  using Unit = Bf16Pairs;
  static constexpr int kUnits = 1;
};
// Codes are widened two pairs at a time, beside multiplications that leave room for it.
template <>
struct PackedTiles<DType::kF8E4M3> {
  static constexpr int kStreamedRows = 4;
  static constexpr int kOnePanelRows = kStreamedRows;
  static constexpr int kPanels = 1;
  static constexpr int kRows = 12;
  static constexpr int Lanes(int rows, int /*panels*/) {
    return rows <= kStreamedRows ? kBf16PairLanes : 2;
  }
  using Unit = Bf16Pairs;
  static constexpr int kUnits = 2;
};

template <DType T>
inline void LoadUnits(const uint8_t* from, Bf16Pairs (&to)[PackedTiles<T>::kUnits]) {
  if constexpr (T == DType::kBF16) {
    to[0] = {reinterpret_cast<__m512bh>(_mm512_loadu_si512(from))};
  } else {
    const CodeBytes bytes = LookUpCodes(from);
    to[0] = {reinterpret_cast<__m512bh>(_mm512_unpacklo_epi8(bytes.low, bytes.high))};
    to[1] = {reinterpret_cast<__m512bh>(_mm512_unpackhi_epi8(bytes.low, bytes.high))};
  }
}
template <DType T>
inline Bf16Pairs BroadcastUnit(const uint8_t* from) {
  int pair;
  __builtin_memcpy(&pair, from, sizeof(pair));
  return {reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair))};
}
inline F32x16 AddProduct(Bf16Pairs a, Bf16Pairs b, F32x16 sum) {
  return {_mm512_dpbf16_ps(sum.v, a.v, b.v)};
}

}  // namespace octogate::kernels::avx512bf16

// After what they are made of.
// clang-format off
#include "kernels/cpu/matmul-inl.h"
#include "kernels/cpu/matmul_bf16-inl.h"
#include "kernels/cpu/matmul_packed-inl.h"
// clang-format on

namespace octogate::kernels {

PackedProducts Avx512Bf16Pairs() {
  return {.rows_together = avx512bf16::kPackedRows,
          .row_bytes = avx512bf16::PackedRowBytes<DType::kBF16>,
          .pack_inputs = avx512bf16::PackInputs<DType::kBF16>,
          .matmul = avx512bf16::MatMulPairs};
}

}  // namespace octogate::kernels
