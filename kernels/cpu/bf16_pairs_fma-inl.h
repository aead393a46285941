// Sixteen pairs of BF16 values, multiplied and added with multiply-adds of floats; interface for
// matmul_pairs-inl.h. Included once per instruction set, after its lanes; no include guard.

namespace octogate::kernels::OCTOGATE_ISA {

// So many rows wait for memory, which is fastest in order.
inline constexpr int kPairStreamedRows = DenseTilePairs(1) >= kBf16PairLanes ? kStreamedRows : 0;
// So many take one panel at a time, more as many as have registers.
inline constexpr int kPairOnePanelRows = kStreamedRows;
inline constexpr int kPairPanels = Bf16TilePanels(kDenseTileRows);
// Rows of a tile at most, and lanes that have registers beside them.
inline constexpr int kPairTileRows = kDenseTileRows;
constexpr int PairTileLanes(int rows, int panels) {
  const int pairs = panels > 1 ? 1 : DenseTilePairs(rows);
  return pairs < kBf16PairLanes ? pairs : kBf16PairLanes;
}

using Bf16Pairs = Pair;

// The weights of a pair of columns.
inline Bf16Pairs LoadPairs(const uint8_t* from) { return LoadPair<DType::kBF16>(from); }

// One pair, for all outputs.
inline Bf16Pairs BroadcastPair(const uint8_t* from) {
  uint32_t pair;
  __builtin_memcpy(&pair, from, sizeof(pair));
  return {Broadcast(__builtin_bit_cast(float, pair << 16)),
          Broadcast(__builtin_bit_cast(float, pair & 0xFFFF0000u))};
}

// sum + odd a * odd b, and then + even a * even b.
inline F32x16 AddPairs(Bf16Pairs a, Bf16Pairs b, F32x16 sum) {
  return FmaFlushed(a.even, b.even, FmaFlushed(a.odd, b.odd, sum));
}

}  // namespace octogate::kernels::OCTOGATE_ISA
