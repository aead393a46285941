// Products of BF16 weights and activations rounded to BF16, in the order of
// kernels/bf16_dot.h, with multiply-adds of floats. Included once per
// instruction set; no include guard.

namespace octogate::kernels::OCTOGATE_ISA {

inline constexpr int kBf16TileRows = 4;

// FloatToBFloat16, widened again.
inline float RoundToBf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  bits = nan ? bits | 0x400000u : bits + 0x7FFFu + ((bits >> 16) & 1u);
  bits &= 0xFFFF0000u;
  __builtin_memcpy(&x, &bits, sizeof(x));
  return x;
}

// As floats, row-major.
inline size_t RoundedRowBytes(int cols) {
  return static_cast<size_t>((cols + kBlockColumns - 1) / kBlockColumns) * kBlockColumns *
         sizeof(float);
}
inline void RoundInputs(const float* x, int cols, int row, void* inputs) {
  const int padded = static_cast<int>(RoundedRowBytes(cols) / sizeof(float));
  float* to = static_cast<float*>(inputs) + static_cast<size_t>(row) * static_cast<size_t>(padded);
  for (int c = 0; c < cols; ++c) to[c] = RoundToBf16(x[c]);
  for (int c = cols; c < padded; ++c) to[c] = 0;
}

// The dot products of X rows and W panels, 16 outputs each, [X][W][16]. A
// function of its own, since it may run with subnormals flushed to zero and must
// not share arithmetic with what does not.
template <int X, int W>
__attribute__((noinline)) void DotBlocks(const MatMulArgs& args, int row, int panel, float* dots) {
  const size_t stride = static_cast<size_t>(args.blocks) * kBlockColumns;
  const float* x = static_cast<const float*>(args.x) + static_cast<size_t>(row) * stride;
  const uint8_t* weights = args.panels + static_cast<size_t>(panel) * args.panel_bytes;
  F32x16 sums[X][W];
  OCTOGATE_UNROLL
  for (int i = 0; i < X; ++i) {
    OCTOGATE_UNROLL
    for (int w = 0; w < W; ++w) sums[i][w] = Zero();
  }
  for (int block = 0; block < args.blocks; ++block) {
    F32x16 even[X][W];
    F32x16 odd[X][W];
    OCTOGATE_UNROLL
    for (int i = 0; i < X; ++i) {
      OCTOGATE_UNROLL
      for (int w = 0; w < W; ++w) even[i][w] = odd[i][w] = Zero();
    }
    for (int pair = 0; pair < kBlockColumns / 2; ++pair) {
      OCTOGATE_UNROLL
      for (int w = 0; w < W; ++w) {
        const Pair values =
            LoadPair<DType::kBF16>(weights + static_cast<size_t>(w) * args.panel_bytes);
        OCTOGATE_UNROLL
        for (int i = 0; i < X; ++i) {
          const float* from = x + static_cast<size_t>(i) * stride;
          even[i][w] = FmaFlushed(Broadcast(from[0]), values.even, even[i][w]);
          odd[i][w] = FmaFlushed(Broadcast(from[1]), values.odd, odd[i][w]);
        }
      }
      x += 2;
      weights += kPairBytes<DType::kBF16>;
    }
    OCTOGATE_UNROLL
    for (int i = 0; i < X; ++i) {
      OCTOGATE_UNROLL
      for (int w = 0; w < W; ++w) {
        sums[i][w] = AddFlushed(sums[i][w], AddFlushed(even[i][w], odd[i][w]));
      }
    }
  }
  OCTOGATE_UNROLL
  for (int i = 0; i < X; ++i) {
    OCTOGATE_UNROLL
    for (int w = 0; w < W; ++w) Store(sums[i][w], dots + (i * W + w) * kPanelOutputs);
  }
}

template <int X, int W>
inline void DotTile(const MatMulArgs& args, int row, int panel) {
  alignas(64) float dots[X * W * kPanelOutputs];
  {
    const SubnormalsFlushed scope;
    DotBlocks<X, W>(args, row, panel, dots);
  }
  for (int i = 0; i < X; ++i) {
    for (int w = 0; w < W; ++w) {
      const int n = (panel + w) * kPanelOutputs;
      const int count = args.outputs - n < kPanelOutputs ? args.outputs - n : kPanelOutputs;
      FinishOutputs(
          Load(dots + (i * W + w) * kPanelOutputs), args.bias, n, count, args.accumulate,
          args.out + static_cast<size_t>(row + i) * static_cast<size_t>(args.out_stride) + n);
    }
  }
}

template <int X = kBf16TileRows>
inline void DotRows(const MatMulArgs& args, int row, int count, int begin, int end) {
  if constexpr (X > 0) {
    if (count != X) return DotRows<X - 1>(args, row, count, begin, end);
    constexpr int kAtOnce = Bf16TilePanels(X);
    int panel = begin;
    for (; panel + kAtOnce <= end; panel += kAtOnce) DotTile<X, kAtOnce>(args, row, panel);
    for (; panel < end; ++panel) DotTile<X, 1>(args, row, panel);
  }
}

inline void MatMulBf16(const MatMulArgs& args, int begin, int end, float* /*scratch*/) {
  // A few panels at a time, so that later rows of x find them in the cache.
  constexpr int kCachedPanels = 4;
  for (int panel = begin; panel < end; panel += kCachedPanels) {
    const int last = panel + kCachedPanels < end ? panel + kCachedPanels : end;
    int row = 0;
    for (int tile = (args.rows + kBf16TileRows - 1) / kBf16TileRows; tile > 0; --tile) {
      const int count = (args.rows - row + tile - 1) / tile;
      DotRows(args, row, count, panel, last);
      row += count;
    }
  }
}

}  // namespace octogate::kernels::OCTOGATE_ISA
