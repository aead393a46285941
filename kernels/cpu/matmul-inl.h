// Products with floating-point weights. Sixteen outputs stand in the lanes of a
// register; the sixteen lanes of kernels/reduction_order.h are sixteen
// accumulators, so that panels are read as one stream and nothing is summed
// across a register. Each output has an exact order, hence is independent of the
// blocking. Included once per instruction set; no include guard.

#include "kernels/cpu/finish_outputs-inl.h"

namespace octogate::kernels::OCTOGATE_ISA {

// Compilers give up on the innermost loops below, which keep their arrays in
// registers, before all of them are unrolled.
#if defined(__clang__)
#define OCTOGATE_UNROLL _Pragma("unroll")
#else
#define OCTOGATE_UNROLL _Pragma("GCC unroll 16")
#endif

inline constexpr int kGroupPairs = kLanes / 2;
inline constexpr size_t kTileSums = size_t{kLanes} * kPanelOutputs;  // of a row and a panel

template <DType T>
inline constexpr size_t kPairBytes = 2 * kPanelOutputs* SizeOf(T);

// Where a pair of columns begins in a panel. Behind an even pair, or alone, offsets add up.
template <DType T>
constexpr size_t PairOffset(int pair) {
  const auto p = static_cast<size_t>(pair);
  return T == DType::kF8E4M3 ? p / 2 * 2 * kPairBytes<T> + p % 2 * 8 : p * kPairBytes<T>;
}

// Weights to ask for while others are multiplied: those of groups first, first +
// every, … of a slice at `from`, in the layout of the slice at hand.
struct Ahead {
  const uint8_t* from;  // null: none
  int first;
  int every;
};

// Adds the products of `groups` groups of columns to the sums of X rows of x and
// a panel. A pass keeps the lanes of P pairs of every group in registers.
template <DType T, int X, int P>
inline void AccumulateTile(const uint8_t* panel, const float* x, size_t x_stride, int groups,
                           bool first, const Ahead& ahead, float* sums) {
  static_assert(kGroupPairs % P == 0 && P % kPairsTogether<T> == 0, "passes are of equal width");
  // What one row reads comes next; more rows come back to it in the second cache.
  constexpr int kLocality = X == 1 && P == kGroupPairs ? 3 : 2;
  for (int pair = 0; pair < kGroupPairs; pair += P) {
    F32x16 even[X][P];
    F32x16 odd[X][P];
    float* const lanes = sums + 2 * pair * kPanelOutputs;
    OCTOGATE_UNROLL
    for (int i = 0; i < X; ++i) {
      const float* from = lanes + static_cast<size_t>(i) * kTileSums;
      OCTOGATE_UNROLL
      for (int p = 0; p < P; ++p, from += 2 * kPanelOutputs) {
        even[i][p] = first ? Zero() : Load(from);
        odd[i][p] = first ? Zero() : Load(from + kPanelOutputs);
      }
    }
    const uint8_t* weights = panel + PairOffset<T>(pair);
    const float* inputs = x + 2 * pair;
    int asking = ahead.from != nullptr ? ahead.first : groups;
    for (int g = 0; g < groups; ++g) {
      if (g == asking) {
        asking += ahead.every;
        const uint8_t* from =
            ahead.from + static_cast<size_t>(g * kGroupPairs + pair) * kPairBytes<T>;
        OCTOGATE_UNROLL
        for (size_t at = 0; at < P * kPairBytes<T>; at += 64) {
          __builtin_prefetch(from + at, 0, kLocality);
        }
      }
      OCTOGATE_UNROLL
      for (int p = 0; p < P; p += kPairsTogether<T>) {
        Pair values[kPairsTogether<T>];
        LoadPairs<T>(weights + PairOffset<T>(p), values);
        OCTOGATE_UNROLL
        for (int t = 0; t < kPairsTogether<T>; ++t) {
          OCTOGATE_UNROLL
          for (int i = 0; i < X; ++i) {
            const float* from = inputs + static_cast<size_t>(i) * x_stride + 2 * (p + t);
            even[i][p + t] = Fma(Broadcast(from[0]), values[t].even, even[i][p + t]);
            odd[i][p + t] = Fma(Broadcast(from[1]), values[t].odd, odd[i][p + t]);
          }
        }
      }
      weights += kGroupPairs * kPairBytes<T>;
      inputs += kLanes;
    }
    OCTOGATE_UNROLL
    for (int i = 0; i < X; ++i) {
      float* to = lanes + static_cast<size_t>(i) * kTileSums;
      OCTOGATE_UNROLL
      for (int p = 0; p < P; ++p, to += 2 * kPanelOutputs) {
        Store(even[i][p], to);
        Store(odd[i][p], to + kPanelOutputs);
      }
    }
  }
}

// Rows that are one tile. `streamed`: a pass takes all pairs.
template <DType T, int X = kDenseTileRows>
inline void AccumulateRows(int rows, bool streamed, const uint8_t* panel, const float* x,
                           size_t x_stride, int groups, bool first, const Ahead& ahead,
                           float* sums) {
  if constexpr (X > 0) {
    if (rows != X) {
      return AccumulateRows<T, X - 1>(rows, streamed, panel, x, x_stride, groups, first, ahead,
                                      sums);
    }
    if constexpr (X <= kStreamedRows) {
      if (streamed) {
        return AccumulateTile<T, X, kGroupPairs>(panel, x, x_stride, groups, first, ahead, sums);
      }
    }
    AccumulateTile<T, X, DenseTilePairs(X)>(panel, x, x_stride, groups, first, ahead, sums);
  }
}

// A block of rows in tiles of about the same height, which share in asking for
// the slice at `ahead`.
template <DType T>
inline void AccumulateBlock(int rows, bool streamed, const uint8_t* panel, const float* x,
                            size_t x_stride, int groups, bool first, const uint8_t* ahead,
                            float* sums) {
  int row = 0;
  const int tiles = (rows + kDenseTileRows - 1) / kDenseTileRows;
  for (int tile = tiles; tile > 0; --tile) {
    const int count = (rows - row + tile - 1) / tile;
    AccumulateRows<T>(count, streamed, panel, x + static_cast<size_t>(row) * x_stride, x_stride,
                      groups, first, {ahead, tile - 1, tiles},
                      sums + static_cast<size_t>(row) * kTileSums);
    row += count;
  }
}

// The outputs of a row and a panel from the sums of `Lanes` lanes. A function of its own: those
// sums may have been made with subnormals flushed to zero.
template <int Lanes>
__attribute__((noinline)) void FinishPanel(const MatMulArgs& args, int row, int panel,
                                           const float* sums) {
  F32x16 lanes[Lanes];
  for (int l = 0; l < Lanes; ++l) lanes[l] = Load(sums + l * kPanelOutputs);
  for (int half = Lanes / 2; half > 0; half /= 2) {
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

// How far ahead of what is read streamed panels are asked for, in bytes, across their ends.
constexpr size_t StreamAhead(int rows) { return rows == 1 ? 4096 : 8192; }

template <DType T>
void MatMulAs(const MatMulArgs& args, int begin, int end, float* scratch) {
  float* const sums = scratch;
  float* const last_inputs = scratch + size_t{kBlockRows} * kTileSums;
  const auto cols = static_cast<size_t>(args.cols);
  const int whole_groups = args.cols / kLanes;
  const int left = args.cols % kLanes;
  // Few rows read a panel once and in order, as one stream.
  const bool streamed = args.rows <= kStreamedRows;
  const int slice_groups = streamed ? whole_groups + 1 : kSliceGroups;
  for (int n = begin; n < end; ++n) {
    const uint8_t* const panel = args.panels + static_cast<size_t>(n) * args.panel_bytes;
    for (int row = 0; row < args.rows; row += kBlockRows) {
      const int rows = args.rows - row < kBlockRows ? args.rows - row : kBlockRows;
      const float* const x = static_cast<const float*>(args.x) + static_cast<size_t>(row) * cols;
      const auto slice = [&](int group) {
        return panel + static_cast<size_t>(group) * kGroupPairs * kPairBytes<T>;
      };
      for (int g = 0; g < whole_groups; g += slice_groups) {
        const int groups = whole_groups - g < slice_groups ? whole_groups - g : slice_groups;
        // What comes from memory next; later rows find the panel in the cache.
        const uint8_t* ahead = nullptr;
        if (streamed) {
          ahead = panel + StreamAhead(args.rows);
        } else if (whole_groups - g >= 2 * kSliceGroups) {
          if (row == 0) ahead = slice(g + kSliceGroups);
        } else if (g + groups == whole_groups && row + rows == args.rows && n + 1 < end) {
          ahead = panel + args.panel_bytes;
        }
        AccumulateBlock<T>(rows, streamed, slice(g), x + static_cast<size_t>(g) * kLanes, cols,
                           groups, g == 0, ahead, sums);
      }
      if (left > 0) {
        for (int i = 0; i < rows; ++i) {
          Store(LoadPartial(x + static_cast<size_t>(i) * cols + cols - static_cast<size_t>(left),
                            left),
                last_inputs + i * kLanes);
        }
        AccumulateBlock<T>(rows, streamed, slice(whole_groups), last_inputs, kLanes, 1,
                           whole_groups == 0, nullptr, sums);
      }
      for (int i = 0; i < rows; ++i) {
        FinishPanel<kLanes>(args, row + i, n, sums + static_cast<size_t>(i) * kTileSums);
      }
    }
  }
}

inline void MatMul(const MatMulArgs& args, int begin, int end, float* scratch) {
  switch (args.dtype) {
    case DType::kF32:
      return MatMulAs<DType::kF32>(args, begin, end, scratch);
    case DType::kF16:
      return MatMulAs<DType::kF16>(args, begin, end, scratch);
    case DType::kBF16:
      return MatMulAs<DType::kBF16>(args, begin, end, scratch);
    case DType::kF8E4M3:
      return MatMulAs<DType::kF8E4M3>(args, begin, end, scratch);
    default:
      return;  // not a type of weights
  }
}

}  // namespace octogate::kernels::OCTOGATE_ISA
