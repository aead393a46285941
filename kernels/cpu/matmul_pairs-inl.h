// Products of BF16 weights, or codes of FP8, and activations rounded to BF16, pairs of
// columns at a time, in the order of DotBf16Pairs (kernels/bf16_dot.h). Included once per
// instruction set, after Bf16Pairs and the shape of tiles (bf16_pairs_fma-inl.h); no
// include guard.
//
// Rounded rows of x are kept as [row / kPairBlockRows][slice][row % kPairBlockRows][lane]
// [group of the slice][2 columns]: registers hold the sums of few lanes at a time, which
// then read in order, and the rows of a tile are at distances that compilers know.

namespace octogate::kernels::OCTOGATE_ISA {

// Columns are taken in slices, of groups of one pair for each lane.
inline constexpr int kPairSliceColumns = 512;
inline constexpr int kPairSliceGroups = kPairSliceColumns / (2 * kBf16PairLanes);
// Of a panel: a group of columns.
template <DType T>
inline constexpr size_t kPairGroupBytes = kBf16PairLanes* kPairBytes<T>;
inline constexpr int kPairBlockRows = 24;
inline constexpr size_t kPairLaneBytes = size_t{kPairSliceGroups} * sizeof(uint32_t);
// Of a slice, with a line of nothing at the end: rows at powers of two would share places in the
// first cache.
inline constexpr size_t kPairRowBytes = kBf16PairLanes * kPairLaneBytes + 64;
inline constexpr size_t kPairBlockBytes = kPairBlockRows * kPairRowBytes;
inline constexpr size_t kPairStreamAhead = 4096;                             // bytes
inline constexpr size_t kPairSums = size_t{kBf16PairLanes} * kPanelOutputs;  // of a row and a panel

inline size_t RoundedPairsBytes(int cols) {
  return static_cast<size_t>((cols + kPairSliceColumns - 1) / kPairSliceColumns) * kPairRowBytes;
}

inline void RoundPairs(const float* x, int cols, int row, void* inputs) {
  const int slices = (cols + kPairSliceColumns - 1) / kPairSliceColumns;
  auto* to = static_cast<uint8_t*>(inputs) +
             static_cast<size_t>(row / kPairBlockRows * slices) * kPairBlockBytes +
             static_cast<size_t>(row % kPairBlockRows) * kPairRowBytes;
  uint32_t bits[kPairSliceColumns];
  for (int slice = 0; slice < slices; ++slice, to += kPairBlockBytes) {
    const float* const from = x + slice * kPairSliceColumns;
    const int left = cols - slice * kPairSliceColumns;
    const int count = left < kPairSliceColumns ? left : kPairSliceColumns;
    for (int c = 0; c < count; ++c) {
      const float rounded = RoundToBf16(from[c]);
      __builtin_memcpy(&bits[c], &rounded, sizeof(rounded));
    }
    for (int c = count; c < kPairSliceColumns; ++c) bits[c] = 0;
    for (int lane = 0; lane < kBf16PairLanes; ++lane) {
      for (int g = 0; g < kPairSliceGroups; ++g) {
        const uint32_t* const columns = bits + 2 * (g * kBf16PairLanes + lane);
        const uint32_t pair = columns[1] | columns[0] >> 16;
        __builtin_memcpy(to + static_cast<size_t>(lane) * kPairLaneBytes + g * sizeof(pair), &pair,
                         sizeof(pair));
      }
    }
  }
}

// Adds the products of `groups` groups of a slice to the sums of X rows of x and W
// panels, [X][W][lane][16 outputs]; L lanes at a time are in registers. A function of
// its own, since it may run with subnormals flushed to zero and must not share
// arithmetic with what does not.
template <DType T, int X, int W, int L>
__attribute__((noinline)) void AccumulatePairs(const uint8_t* panels, size_t panel_bytes,
                                               const uint8_t* x, int groups, bool first,
                                               const uint8_t* ahead, float* sums) {
  constexpr int kPairs = PairTiles<T>::kPairs;
  static_assert(kBf16PairLanes % L == 0 && L % kPairs == 0, "passes are of equal width");
  // What all lanes read comes next; more passes come back to it in the second cache.
  constexpr int kLocality = L == kBf16PairLanes ? 3 : 2;
  for (int lane = 0; lane < kBf16PairLanes; lane += L) {
    F32x16 dots[X][W][L];
    const auto for_sums = [&](const auto& f) {
      OCTOGATE_UNROLL
      for (int i = 0; i < X; ++i) {
        OCTOGATE_UNROLL
        for (int w = 0; w < W; ++w) {
          OCTOGATE_UNROLL
          for (int l = 0; l < L; ++l) {
            f(dots[i][w][l],
              sums + static_cast<size_t>(i * W + w) * kPairSums + (lane + l) * kPanelOutputs);
          }
        }
      }
    };
    for_sums([first](F32x16& dot, const float* from) { dot = first ? Zero() : Load(from); });
    const size_t at = static_cast<size_t>(lane) * kPairBytes<T>;
    const uint8_t* weights = panels + PairOffset<T>(lane);
    const uint8_t* asked = ahead == nullptr ? nullptr : ahead + at;
    const uint8_t* inputs = x + static_cast<size_t>(lane) * kPairLaneBytes;
    for (int g = 0; g < groups; ++g) {
      if (asked != nullptr) {
        OCTOGATE_UNROLL
        for (int w = 0; w < W; ++w) {
          OCTOGATE_UNROLL
          for (size_t line = 0; line < L * kPairBytes<T>; line += 64) {
            __builtin_prefetch(asked + static_cast<size_t>(w) * panel_bytes + line, 0, kLocality);
          }
        }
        asked += kPairGroupBytes<T>;
      }
      OCTOGATE_UNROLL
      for (int l = 0; l < L; l += kPairs) {
        Bf16Pairs values[W][kPairs];
        OCTOGATE_UNROLL
        for (int w = 0; w < W; ++w) {
          LoadPairs<T>(weights + static_cast<size_t>(w) * panel_bytes + PairOffset<T>(l),
                       values[w]);
        }
        OCTOGATE_UNROLL
        for (int i = 0; i < X; ++i) {
          OCTOGATE_UNROLL
          for (int p = 0; p < kPairs; ++p) {
            const Bf16Pairs input = BroadcastPair(inputs + static_cast<size_t>(i) * kPairRowBytes +
                                                  (l + p) * kPairLaneBytes);
            OCTOGATE_UNROLL
            for (int w = 0; w < W; ++w) {
              dots[i][w][l + p] = AddPairs(input, values[w][p], dots[i][w][l + p]);
            }
          }
        }
      }
      weights += kPairGroupBytes<T>;
      inputs += sizeof(uint32_t);
    }
    for_sums([](F32x16 dot, float* to) { Store(dot, to); });
  }
}

// A slice for rows that are one tile.
template <DType T, int W, int X = PairTiles<T>::kRows>
inline void AccumulatePairRows(int rows, const uint8_t* panels, size_t panel_bytes,
                               const uint8_t* x, int groups, bool first, const uint8_t* ahead,
                               float* sums) {
  if constexpr (X > 0) {
    if (rows != X) {
      return AccumulatePairRows<T, W, X - 1>(rows, panels, panel_bytes, x, groups, first, ahead,
                                             sums);
    }
    AccumulatePairs<T, X, W, PairTiles<T>::Lanes(X, W)>(panels, panel_bytes, x, groups, first,
                                                        ahead, sums);
  }
}

__attribute__((noinline)) inline void FinishPairs(const Bf16MatMulArgs& args, int row, int panel,
                                                  const float* sums) {
  F32x16 lanes[kBf16PairLanes];
  for (int l = 0; l < kBf16PairLanes; ++l) lanes[l] = Load(sums + l * kPanelOutputs);
  for (int half = kBf16PairLanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lanes[l] = lanes[l] + lanes[l + half];
  }
  const int n = panel * kPanelOutputs;
  const int count = args.outputs - n < kPanelOutputs ? args.outputs - n : kPanelOutputs;
  F32x16 dots = lanes[0];
  if (args.row_scales != nullptr) {
    dots = dots * (LoadPartial(args.row_scales + n, count) * Broadcast(kFloat8Shift));
  }
  FinishOutputs(dots, args.bias, n, count, args.accumulate,
                args.out + static_cast<size_t>(row) * static_cast<size_t>(args.out_stride) + n);
}

// The outputs of a block of rows, in tiles of about the same height, and of W
// panels. `last`: no panels follow.
template <DType T, int W>
inline void PairBlock(const Bf16MatMulArgs& args, int row, int rows, int panel, bool last) {
  alignas(64) float sums[size_t{kPairBlockRows} * W * kPairSums];
  const int slices = (args.blocks * kBlockColumns + kPairSliceColumns - 1) / kPairSliceColumns;
  const int all_groups = args.blocks * (kBlockColumns / (2 * kBf16PairLanes));
  const uint8_t* x = static_cast<const uint8_t*>(args.x) +
                     static_cast<size_t>(row / kPairBlockRows * slices) * kPairBlockBytes;
  const uint8_t* const panels = args.panels + static_cast<size_t>(panel) * args.panel_bytes;
  {
    const SubnormalsFlushed scope;
    for (int slice = 0; slice < slices; ++slice, x += kPairBlockBytes) {
      const int g = slice * kPairSliceGroups;
      const int groups = all_groups - g < kPairSliceGroups ? all_groups - g : kPairSliceGroups;
      const uint8_t* const weights = panels + static_cast<size_t>(g) * kPairGroupBytes<T>;
      // What comes from memory next; later rows find the panels in the cache.
      const uint8_t* ahead = nullptr;
      if (args.rows <= PairTiles<T>::kStreamedRows) {
        ahead = weights + kPairStreamAhead;
      } else if (slice + 1 < slices) {
        if (row == 0) ahead = weights + kPairSliceGroups * kPairGroupBytes<T>;
      } else if (row + rows == args.rows && !last) {
        ahead = panels + W * args.panel_bytes;
      }
      int tile_row = 0;
      constexpr int kRows = PairTiles<T>::kRows;
      for (int tile = (rows + kRows - 1) / kRows; tile > 0; --tile) {
        const int count = (rows - tile_row + tile - 1) / tile;
        AccumulatePairRows<T, W>(count, weights, args.panel_bytes,
                                 x + static_cast<size_t>(tile_row) * kPairRowBytes, groups,
                                 slice == 0, tile == 1 ? ahead : nullptr,
                                 sums + static_cast<size_t>(tile_row * W) * kPairSums);
        tile_row += count;
      }
    }
  }
  for (int i = 0; i < rows; ++i) {
    for (int w = 0; w < W; ++w) {
      FinishPairs(args, row + i, panel + w, sums + static_cast<size_t>(i * W + w) * kPairSums);
    }
  }
}

template <DType T, int W>
inline void PairPanels(const Bf16MatMulArgs& args, int panel, bool last) {
  for (int row = 0; row < args.rows; row += kPairBlockRows) {
    const int left = args.rows - row;
    PairBlock<T, W>(args, row, left < kPairBlockRows ? left : kPairBlockRows, panel, last);
  }
}

template <DType T>
inline void MatMulPairsOf(const Bf16MatMulArgs& args, int begin, int end) {
  constexpr int kPanels = PairTiles<T>::kPanels;
  const int at_once = args.rows <= PairTiles<T>::kOnePanelRows ? 1 : kPanels;
  int panel = begin;
  for (; panel + at_once <= end; panel += at_once) {
    const bool last = panel + 2 * at_once > end;
    if (at_once == 1) {
      PairPanels<T, 1>(args, panel, last);
    } else {
      PairPanels<T, kPanels>(args, panel, last);
    }
  }
  for (; panel < end; ++panel) PairPanels<T, 1>(args, panel, true);
}

inline void MatMulPairs(const Bf16MatMulArgs& args, int begin, int end) {
  if (args.dtype == DType::kF8E4M3) return MatMulPairsOf<DType::kF8E4M3>(args, begin, end);
  MatMulPairsOf<DType::kBF16>(args, begin, end);
}

}  // namespace octogate::kernels::OCTOGATE_ISA
