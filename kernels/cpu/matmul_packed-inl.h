// Products of rows of x that were put in order first: in the order of DotBf16Pairs
// (kernels/bf16_dot.h), with weights in BF16 or codes of FP8 and x rounded to BF16; and in
// that of kernels/reduction_order.h, with many rows of x and weights in F32. Included once
// per instruction set, after PackedTiles (packed_fma-inl.h); no include guard.
//
// What is multiplied at once is a unit: a pair of columns in BF16, or one column in F32. Lane l of
// a dot product takes units l, l + lanes, ...; a group is one unit for each lane. Rows of x
// are kept as [row / kPackedRows][slice][row % kPackedRows][lane][group of the slice][unit]:
// registers hold the sums of few lanes at a time, which then read in order, and the rows of
// a tile are at distances that compilers know.

namespace octogate::kernels::OCTOGATE_ISA {

template <DType T>
inline constexpr int kDotLanes = T == DType::kF32 ? kLanes : kBf16PairLanes;
template <DType T>
inline constexpr int kUnitColumns = T == DType::kF32 ? 1 : 2;
inline constexpr int kUnitBytes = 4;  // of x

// Columns are taken in slices.
template <DType T>
inline constexpr int kPackedGroups = T == DType::kF32 ? 128 : 64;
template <DType T>
inline constexpr int kPackedColumns = kPackedGroups<T>* kDotLanes<T>* kUnitColumns<T>;
// Of a panel.
template <DType T>
inline constexpr size_t kUnitPanelBytes = size_t{kUnitColumns<T>} * kPanelOutputs* SizeOf(T);
template <DType T>
inline constexpr size_t kGroupPanelBytes = kDotLanes<T>* kUnitPanelBytes<T>;
template <DType T>
constexpr size_t UnitOffset(int unit) {
  return kUnitColumns<T> == 2 ? PairOffset<T>(unit)
                              : static_cast<size_t>(unit) * kUnitPanelBytes<T>;
}
// Of x.
inline constexpr int kPackedRows = kBlockRows;
template <DType T>
inline constexpr size_t kLaneBytes = size_t{kPackedGroups<T>} * kUnitBytes;
// Of a slice, with a line of nothing at the end: rows at powers of two would share places in the
// first cache.
template <DType T>
inline constexpr size_t kPackedRowBytes = kDotLanes<T>* kLaneBytes<T> + 64;
template <DType T>
inline constexpr size_t kPackedBlockBytes = kPackedRows* kPackedRowBytes<T>;
inline constexpr size_t kPackedStreamAhead = 4096;  // bytes
template <DType T>
inline constexpr size_t kPackedSums = size_t{kDotLanes<T>} * kPanelOutputs;  // of a row and a panel

template <DType T>
constexpr int PackedSlices(int cols) {
  return (cols + kPackedColumns<T> - 1) / kPackedColumns<T>;
}

template <DType T>
size_t PackedRowBytes(int cols) {
  return static_cast<size_t>(PackedSlices<T>(cols)) * kPackedRowBytes<T>;
}

// What products read: of the last slice no more than whole blocks of columns.
template <DType T>
void PackInputs(const float* x, int cols, int row, void* inputs) {
  constexpr bool kRounded = T != DType::kF32;
  constexpr int kGroupColumns = kDotLanes<T> * kUnitColumns<T>;
  static_assert(kBlockColumns % kGroupColumns == 0 && kPackedColumns<T> % kBlockColumns == 0);
  const int slices = PackedSlices<T>(cols);
  auto* to = static_cast<uint8_t*>(inputs) +
             static_cast<size_t>(row / kPackedRows * slices) * kPackedBlockBytes<T> +
             static_cast<size_t>(row % kPackedRows) * kPackedRowBytes<T>;
  uint32_t bits[kPackedColumns<T>];
  for (int slice = 0; slice < slices; ++slice, to += kPackedBlockBytes<T>) {
    const float* const from = x + slice * kPackedColumns<T>;
    const int left = cols - slice * kPackedColumns<T>;
    const int count = left < kPackedColumns<T> ? left : kPackedColumns<T>;
    for (int c = 0; c < count; ++c) {
      const float value = kRounded ? RoundToBf16(from[c]) : from[c];
      __builtin_memcpy(&bits[c], &value, sizeof(value));
    }
    const int whole = (count + kBlockColumns - 1) / kBlockColumns * kBlockColumns;
    for (int c = count; c < whole; ++c) bits[c] = 0;
    for (int lane = 0; lane < kDotLanes<T>; ++lane) {
      for (int g = 0; g < whole / kGroupColumns; ++g) {
        const uint32_t* const columns = bits + kUnitColumns<T> * (g * kDotLanes<T> + lane);
        const uint32_t unit = kRounded ? columns[1] | columns[0] >> 16 : columns[0];
        __builtin_memcpy(to + static_cast<size_t>(lane) * kLaneBytes<T> + g * kUnitBytes, &unit,
                         sizeof(unit));
      }
    }
  }
}

// Adds the products of `groups` groups of a slice to the sums of X rows of x and W
// panels, [X][W][lane][16 outputs]; L lanes at a time are in registers. A function of
// its own, since it may run with subnormals flushed to zero and must not share
// arithmetic with what does not.
template <DType T, int X, int W, int L>
__attribute__((noinline)) void AccumulatePacked(const uint8_t* panels, size_t panel_bytes,
                                                const uint8_t* x, int groups, bool first,
                                                const uint8_t* ahead, float* sums) {
  constexpr int kUnits = PackedTiles<T>::kUnits;
  static_assert(kDotLanes<T> % L == 0 && L % kUnits == 0, "passes are of equal width");
  // What all lanes read comes next; more passes come back to it in the second cache.
  constexpr int kLocality = L == kDotLanes<T> ? 3 : 2;
  for (int lane = 0; lane < kDotLanes<T>; lane += L) {
    F32x16 dots[X][W][L];
    const auto for_sums = [&](const auto& f) {
      OCTOGATE_UNROLL
      for (int i = 0; i < X; ++i) {
        OCTOGATE_UNROLL
        for (int w = 0; w < W; ++w) {
          OCTOGATE_UNROLL
          for (int l = 0; l < L; ++l) {
            f(dots[i][w][l],
              sums + static_cast<size_t>(i * W + w) * kPackedSums<T> + (lane + l) * kPanelOutputs);
          }
        }
      }
    };
    for_sums([first](F32x16& dot, const float* from) { dot = first ? Zero() : Load(from); });
    const uint8_t* weights = panels + UnitOffset<T>(lane);
    const uint8_t* asked =
        ahead == nullptr ? nullptr : ahead + static_cast<size_t>(lane) * kUnitPanelBytes<T>;
    const uint8_t* inputs = x + static_cast<size_t>(lane) * kLaneBytes<T>;
    for (int g = 0; g < groups; ++g) {
      if (asked != nullptr) {
        OCTOGATE_UNROLL
        for (int w = 0; w < W; ++w) {
          OCTOGATE_UNROLL
          for (size_t line = 0; line < L * kUnitPanelBytes<T>; line += 64) {
            __builtin_prefetch(asked + static_cast<size_t>(w) * panel_bytes + line, 0, kLocality);
          }
        }
        asked += kGroupPanelBytes<T>;
      }
      OCTOGATE_UNROLL
      for (int l = 0; l < L; l += kUnits) {
        typename PackedTiles<T>::Unit values[W][kUnits];
        OCTOGATE_UNROLL
        for (int w = 0; w < W; ++w) {
          LoadUnits<T>(weights + static_cast<size_t>(w) * panel_bytes + UnitOffset<T>(l),
                       values[w]);
        }
        OCTOGATE_UNROLL
        for (int i = 0; i < X; ++i) {
          OCTOGATE_UNROLL
          for (int u = 0; u < kUnits; ++u) {
            const auto input = BroadcastUnit<T>(
                inputs + static_cast<size_t>(i) * kPackedRowBytes<T> + (l + u) * kLaneBytes<T>);
            OCTOGATE_UNROLL
            for (int w = 0; w < W; ++w) {
              dots[i][w][l + u] = AddProduct(input, values[w][u], dots[i][w][l + u]);
            }
          }
        }
      }
      weights += kGroupPanelBytes<T>;
      inputs += kUnitBytes;
    }
    for_sums([](F32x16 dot, float* to) { Store(dot, to); });
  }
}

// A slice for rows that are one tile.
template <DType T, int W, int X = PackedTiles<T>::kRows>
inline void AccumulatePackedRows(int rows, const uint8_t* panels, size_t panel_bytes,
                                 const uint8_t* x, int groups, bool first, const uint8_t* ahead,
                                 float* sums) {
  if constexpr (X > 0) {
    if (rows != X) {
      return AccumulatePackedRows<T, W, X - 1>(rows, panels, panel_bytes, x, groups, first, ahead,
                                               sums);
    }
    AccumulatePacked<T, X, W, PackedTiles<T>::Lanes(X, W)>(panels, panel_bytes, x, groups, first,
                                                           ahead, sums);
  }
}

// The floating-point mode of the order that weights of a type are multiplied in.
template <DType T>
struct ModeOf {
  SubnormalsFlushed flushed;
};
template <>
struct ModeOf<DType::kF32> {
  ModeOf() {}
};

// The outputs of a block of rows, in tiles of about the same height, and of W
// panels. `last`: no panels follow.
template <DType T, int W>
inline void PackedBlock(const MatMulArgs& args, int row, int rows, int panel, bool last,
                        float* sums) {
  static_assert(size_t{kPackedRows} * W * kPackedSums<T> <= kMatMulScratch);
  const int slices = PackedSlices<T>(args.cols);
  // In F32 none is of zeros alone: adding one would make a sum of -0 one of +0.
  const int all_groups = T == DType::kF32 ? (args.cols + kLanes - 1) / kLanes
                                          : args.blocks * (kBlockColumns / (2 * kBf16PairLanes));
  const uint8_t* x = static_cast<const uint8_t*>(args.x) +
                     static_cast<size_t>(row / kPackedRows * slices) * kPackedBlockBytes<T>;
  const uint8_t* const panels = args.panels + static_cast<size_t>(panel) * args.panel_bytes;
  {
    const ModeOf<T> scope;
    for (int slice = 0; slice < slices; ++slice, x += kPackedBlockBytes<T>) {
      const int g = slice * kPackedGroups<T>;
      const int groups = all_groups - g < kPackedGroups<T> ? all_groups - g : kPackedGroups<T>;
      const uint8_t* const weights = panels + static_cast<size_t>(g) * kGroupPanelBytes<T>;
      // What comes from memory next; later rows find the panels in the cache.
      const uint8_t* ahead = nullptr;
      if (args.rows <= PackedTiles<T>::kStreamedRows) {
        ahead = weights + kPackedStreamAhead;
      } else if (slice + 1 < slices) {
        if (row == 0) ahead = weights + kPackedGroups<T> * kGroupPanelBytes<T>;
      } else if (row + rows == args.rows && !last) {
        ahead = panels + W * args.panel_bytes;
      }
      int tile_row = 0;
      constexpr int kRows = PackedTiles<T>::kRows;
      for (int tile = (rows + kRows - 1) / kRows; tile > 0; --tile) {
        const int count = (rows - tile_row + tile - 1) / tile;
        AccumulatePackedRows<T, W>(count, weights, args.panel_bytes,
                                   x + static_cast<size_t>(tile_row) * kPackedRowBytes<T>, groups,
                                   slice == 0, tile == 1 ? ahead : nullptr,
                                   sums + static_cast<size_t>(tile_row * W) * kPackedSums<T>);
        tile_row += count;
      }
    }
  }
  for (int i = 0; i < rows; ++i) {
    for (int w = 0; w < W; ++w) {
      FinishPanel<kDotLanes<T>>(args, row + i, panel + w,
                                sums + static_cast<size_t>(i * W + w) * kPackedSums<T>);
    }
  }
}

template <DType T, int W>
inline void PackedPanels(const MatMulArgs& args, int panel, bool last, float* scratch) {
  for (int row = 0; row < args.rows; row += kPackedRows) {
    const int left = args.rows - row;
    PackedBlock<T, W>(args, row, left < kPackedRows ? left : kPackedRows, panel, last, scratch);
  }
}

template <DType T>
inline void MatMulPacked(const MatMulArgs& args, int begin, int end, float* scratch) {
  constexpr int kPanels = PackedTiles<T>::kPanels;
  const int at_once = args.rows <= PackedTiles<T>::kOnePanelRows ? 1 : kPanels;
  int panel = begin;
  for (; panel + at_once <= end; panel += at_once) {
    const bool last = panel + 2 * at_once > end;
    if (at_once == 1) {
      PackedPanels<T, 1>(args, panel, last, scratch);
    } else {
      PackedPanels<T, kPanels>(args, panel, last, scratch);
    }
  }
  for (; panel < end; ++panel) PackedPanels<T, 1>(args, panel, true, scratch);
}

// With weights in BF16 or FP8.
inline void MatMulPairs(const MatMulArgs& args, int begin, int end, float* scratch) {
  if (args.dtype == DType::kF8E4M3) return MatMulPacked<DType::kF8E4M3>(args, begin, end, scratch);
  MatMulPacked<DType::kBF16>(args, begin, end, scratch);
}

}  // namespace octogate::kernels::OCTOGATE_ISA
