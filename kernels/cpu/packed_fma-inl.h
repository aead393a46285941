// What matmul_packed-inl.h multiplies and adds, with multiply-adds of floats: sixteen pairs of BF16
// values, or sixteen floats. Included once per instruction set, after its lanes; no include guard.

namespace octogate::kernels::OCTOGATE_ISA {

// The shape of tiles for weights of a type.
template <DType T>
struct PackedTiles {
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
  // What is multiplied at once, and how many of them are loaded together.
  using Unit = Pair;
  static constexpr int kUnits = kPairsTogether<T>;
};
template <>
struct PackedTiles<DType::kF32> {
  static constexpr int kStreamedRows = 0;
  static constexpr int kOnePanelRows = 0;
  static constexpr int kPanels = kManyRowsPanels;
  static constexpr int kRows = kManyRowsTile;
  static constexpr int Lanes(int /*rows*/, int /*panels*/) { return 1; }
  using Unit = F32x16;
  static constexpr int kUnits = 1;
};

template <DType T>
inline void LoadUnits(const uint8_t* from,
                      typename PackedTiles<T>::Unit (&to)[PackedTiles<T>::kUnits]) {
  if constexpr (T == DType::kF32) {
    to[0] = Widen<T>(from);
  } else {
    LoadPairs<T>(from, to);
  }
}

// One unit of x, for all outputs.
template <DType T>
inline typename PackedTiles<T>::Unit BroadcastUnit(const uint8_t* from) {
  uint32_t unit;
  __builtin_memcpy(&unit, from, sizeof(unit));
  if constexpr (T == DType::kF32) {
    return Broadcast(__builtin_bit_cast(float, unit));
  } else {
    return {Broadcast(__builtin_bit_cast(float, unit << 16)),
            Broadcast(__builtin_bit_cast(float, unit & 0xFFFF0000u))};
  }
}

// sum + odd a * odd b, and then + even a * even b.
inline F32x16 AddProduct(Pair a, Pair b, F32x16 sum) {
  return FmaFlushed(a.even, b.even, FmaFlushed(a.odd, b.odd, sum));
}
inline F32x16 AddProduct(F32x16 a, F32x16 b, F32x16 sum) { return Fma(a, b, sum); }

}  // namespace octogate::kernels::OCTOGATE_ISA
