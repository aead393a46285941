// Sixteen pairs of BF16 values, multiplied and added with multiply-adds of floats; interface for
// matmul_pairs-inl.h. Included once per instruction set, after its lanes; no include guard.

namespace octogate::kernels::OCTOGATE_ISA {

// The shape of tiles for weights of a type.
template <DType T>
struct PairTiles {
  // So many rows wait for memory, which is fastest in order.
  static constexpr int kStreamedRows =
      DenseTilePairs(1) >= kBf16PairLanes ? OCTOGATE_ISA::kStreamedRows : 0;
  // So many take one panel at a time, more as many as have registers.
  static constexpr int kOnePanelRows = OCTOGATE_ISA::kStreamedRows;
  static constexpr int kPanels = kPairsTogether<T> > 1 ? 1 : Bf16TilePanels(kDenseTileRows);
  // Rows of a tile at most, and lanes that have registers beside them.
  static constexpr int kRows = kDenseTileRows;
  static constexpr int Lanes(int rows, int panels) {
    const int pairs = panels > 1 ? 1 : DenseTilePairs(rows);
    return pairs < kBf16PairLanes ? pairs : kBf16PairLanes;
  }
  // Pairs of columns that are loaded at once.
  static constexpr int kPairs = kPairsTogether<T>;
};

using Bf16Pairs = Pair;

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
