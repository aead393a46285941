// Matrix products of BF16 weights and activations rounded to BF16, in the order
// of kernels/bf16_dot.h. Included once per instruction set; no include guard.

namespace octogate::kernels::OCTOGATE_ISA {

// Leaves the lanes of X * W outputs in `lanes`. A function of its own, since it
// may run with subnormals flushed to zero and must not share arithmetic with
// what does not.
template <int X, int W>
__attribute__((noinline)) void AccumulatePairs(const Bf16MatMulArgs& args, int row, int n,
                                               float* lanes) {
  const size_t row_bytes = static_cast<size_t>(args.cols) * 2;
  const uint8_t* weights[W];
  const uint16_t* inputs[X];
  for (int w = 0; w < W; ++w) weights[w] = args.weight + static_cast<size_t>(n + w) * row_bytes;
  for (int i = 0; i < X; ++i) {
    inputs[i] = args.x + static_cast<size_t>(row + i) * static_cast<size_t>(args.x_stride);
  }
  F32x16 sums[X][W];
  for (int i = 0; i < X; ++i) {
    for (int w = 0; w < W; ++w) sums[i][w] = Zero();
  }
  const int whole = args.cols / kPairColumns * kPairColumns;
  for (int k = 0; k < whole; k += kPairColumns) {
    Bf16Pairs x[X];
    for (int i = 0; i < X; ++i) x[i] = LoadPairs(inputs[i] + k);
    for (int w = 0; w < W; ++w) {
      const Bf16Pairs v = LoadPairs(weights[w] + static_cast<size_t>(k) * 2);
      for (int i = 0; i < X; ++i) sums[i][w] = DotPairs(x[i], v, sums[i][w]);
    }
  }
  if (const int left = args.cols - whole; left > 0) {
    for (int w = 0; w < W; ++w) {
      const Bf16Pairs v = LoadPairsPartial(weights[w] + static_cast<size_t>(whole) * 2, left);
      for (int i = 0; i < X; ++i) {
        sums[i][w] = DotPairs(LoadPairsPartial(inputs[i] + whole, left), v, sums[i][w]);
      }
    }
  }
  for (int i = 0; i < X; ++i) {
    for (int w = 0; w < W; ++w) Store(sums[i][w], lanes + (i * W + w) * kLanes);
  }
}

template <int X, int W>
inline void PairRows(const Bf16MatMulArgs& args, int row, int n) {
  alignas(64) float lanes[X * W * kLanes];
  {
    const SubnormalsFlushed scope;
    AccumulatePairs<X, W>(args, row, n, lanes);
  }
  for (int i = 0; i < X; ++i) {
    for (int w = 0; w < W; ++w) {
      float dot = SumLanes(Load(lanes + (i * W + w) * kLanes));
      float* y =
          args.out + static_cast<size_t>(row + i) * static_cast<size_t>(args.out_stride) + n + w;
      if (args.bias != nullptr) dot += args.bias[n + w];
      *y = args.accumulate ? *y + dot : dot;
    }
  }
}

template <int X>
inline void PairPanel(const Bf16MatMulArgs& args, int row, int begin, int end) {
  constexpr int kStreams = StreamsFor(X);
  int n = begin;
  for (; n + kStreams <= end; n += kStreams) PairRows<X, kStreams>(args, row, n);
  for (; n < end; ++n) PairRows<X, 1>(args, row, n);
}

inline void MatMulBf16(const Bf16MatMulArgs& args, int begin, int end) {
  // A few weights at a time, so that later rows of x find them in the cache.
  constexpr int kCached = 24;
  for (int n = begin; n < end; n += kCached) {
    const int last = n + kCached < end ? n + kCached : end;
    int row = 0;
    for (; row + 4 <= args.rows; row += 4) PairPanel<4>(args, row, n, last);
    switch (args.rows - row) {
      case 3:
        PairPanel<3>(args, row, n, last);
        break;
      case 2:
        PairPanel<2>(args, row, n, last);
        break;
      case 1:
        PairPanel<1>(args, row, n, last);
        break;
      default:
        break;
    }
  }
}

}  // namespace octogate::kernels::OCTOGATE_ISA
