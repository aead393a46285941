// Matrix products with an exact order per output element, hence independent of
// the blocking: a streaming kernel for few rows, bound by the memory that holds
// the weights, and a blocked kernel for many. Included once per instruction
// set; no include guard.

namespace octogate::kernels::OCTOGATE_ISA {

inline void Finish(const MatMulArgs& args, int row, int n, float dot) {
  float* y = args.out + static_cast<size_t>(row) * static_cast<size_t>(args.out_stride) + n;
  if (args.bias != nullptr) dot += args.bias[n];
  *y = args.accumulate ? *y + dot : dot;
}

inline const float* InputRow(const MatMulArgs& args, int row) {
  return args.x + static_cast<size_t>(row) * static_cast<size_t>(args.cols);
}

// Outputs of X rows of x and W rows of the weight: each weight is read once.
// Several rows at a time, because the processor fetches ahead in each of them;
// asking for data in software made it slower wherever it was tried.
template <DType T, int X, int W>
inline void StreamRows(const MatMulArgs& args, int row, int n) {
  const size_t row_bytes = static_cast<size_t>(args.cols) * SizeOf(T);
  const uint8_t* weights[W];
  const float* inputs[X];
  for (int w = 0; w < W; ++w) weights[w] = args.weight + static_cast<size_t>(n + w) * row_bytes;
  for (int i = 0; i < X; ++i) inputs[i] = InputRow(args, row + i);
  F32x16 sums[X][W];
  for (int i = 0; i < X; ++i) {
    for (int w = 0; w < W; ++w) sums[i][w] = Zero();
  }
  const int whole = args.cols / kLanes * kLanes;
  for (int k = 0; k < whole; k += kLanes) {
    F32x16 x[X];
    for (int i = 0; i < X; ++i) x[i] = Load(inputs[i] + k);
    for (int w = 0; w < W; ++w) {
      const uint8_t* from = weights[w] + static_cast<size_t>(k) * SizeOf(T);
      const F32x16 v = Widen<T>(from);
      for (int i = 0; i < X; ++i) sums[i][w] = Fma(x[i], v, sums[i][w]);
    }
  }
  if (const int left = args.cols - whole; left > 0) {
    for (int w = 0; w < W; ++w) {
      const F32x16 v = WidenPartial<T>(weights[w] + static_cast<size_t>(whole) * SizeOf(T), left);
      for (int i = 0; i < X; ++i) {
        sums[i][w] = Fma(LoadPartial(inputs[i] + whole, left), v, sums[i][w]);
      }
    }
  }
  for (int i = 0; i < X; ++i) {
    for (int w = 0; w < W; ++w) Finish(args, row + i, n + w, SumLanes(sums[i][w]));
  }
}

// Rows [begin, end) of the weight for X rows of x.
template <DType T, int X>
inline void StreamPanel(const MatMulArgs& args, int row, int begin, int end) {
  constexpr int kStreams = StreamsFor(X);
  int n = begin;
  for (; n + kStreams <= end; n += kStreams) StreamRows<T, X, kStreams>(args, row, n);
  for (; n < end; ++n) StreamRows<T, X, 1>(args, row, n);
}

template <DType T>
inline void StreamPanelRows(const MatMulArgs& args, int row, int rows, int begin, int end) {
  switch (rows) {
    case 1:
      return StreamPanel<T, 1>(args, row, begin, end);
    case 2:
      return StreamPanel<T, 2>(args, row, begin, end);
    case 3:
      return StreamPanel<T, 3>(args, row, begin, end);
    default:
      return StreamPanel<T, 4>(args, row, begin, end);
  }
}

template <DType T>
void StreamMatMul(const MatMulArgs& args, int begin, int end) {
  if (args.rows <= 4) return StreamPanelRows<T>(args, 0, args.rows, begin, end);
  // A few weights at a time, so that the second half finds them in the cache.
  constexpr int kCached = 24;
  for (int n = begin; n < end; n += kCached) {
    const int last = n + kCached < end ? n + kCached : end;
    StreamPanel<T, 4>(args, 0, n, last);
    StreamPanelRows<T>(args, 4, args.rows - 4, n, last);
  }
}

// Adds the products of `depth` columns (a multiple of 16) to the lanes of X * W
// outputs.
template <int X, int W>
inline void AccumulateTile(const float* x, size_t x_stride, const float* w, size_t w_stride,
                           int depth, bool first, float* lanes, size_t lanes_stride) {
  for (int part = 0; part < kParts; ++part) {
    Part sums[X][W];
    for (int i = 0; i < X; ++i) {
      for (int j = 0; j < W; ++j) {
        sums[i][j] = first ? Part{}
                           : LoadPart(lanes + static_cast<size_t>(i) * lanes_stride + j * kLanes +
                                      part * kPartLanes);
      }
    }
    for (int k = part * kPartLanes; k < depth; k += kLanes) {
      Part inputs[X];
      for (int i = 0; i < X; ++i) inputs[i] = LoadPart(x + static_cast<size_t>(i) * x_stride + k);
      for (int j = 0; j < W; ++j) {
        const Part weights = LoadPart(w + static_cast<size_t>(j) * w_stride + k);
        for (int i = 0; i < X; ++i) sums[i][j] = Fma(inputs[i], weights, sums[i][j]);
      }
    }
    for (int i = 0; i < X; ++i) {
      for (int j = 0; j < W; ++j) {
        StorePart(sums[i][j],
                  lanes + static_cast<size_t>(i) * lanes_stride + j * kLanes + part * kPartLanes);
      }
    }
  }
}

inline constexpr int kTileWeights = 4;
inline constexpr size_t kLanesStride = size_t{kPanelRows} * kLanes;

// One slice of the columns for a block of rows of x and a panel of weights.
inline void AccumulateBlock(const float* x, size_t x_stride, int rows, const float* panel,
                            int panel_rows, int depth, bool first, float* lanes) {
  static_assert(kTileRows == 3 || kTileRows == 4, "as the cases below need");
  for (int i = 0; i < rows; i += kTileRows) {
    const float* from = x + static_cast<size_t>(i) * x_stride;
    for (int j = 0; j < panel_rows; j += kTileWeights) {
      const float* w = panel + static_cast<size_t>(j) * static_cast<size_t>(depth);
      float* to = lanes + static_cast<size_t>(i) * kLanesStride + static_cast<size_t>(j) * kLanes;
      const size_t w_stride = static_cast<size_t>(depth);
      switch (rows - i) {
        case 1:
          AccumulateTile<1, kTileWeights>(from, x_stride, w, w_stride, depth, first, to,
                                          kLanesStride);
          break;
        case 2:
          AccumulateTile<2, kTileWeights>(from, x_stride, w, w_stride, depth, first, to,
                                          kLanesStride);
          break;
        case 3:
          AccumulateTile<3, kTileWeights>(from, x_stride, w, w_stride, depth, first, to,
                                          kLanesStride);
          break;
        default:
          AccumulateTile<kTileRows, kTileWeights>(from, x_stride, w, w_stride, depth, first, to,
                                                  kLanesStride);
      }
    }
  }
}

// Widens `rows` weight rows, `depth` columns from column k, into rows of
// `padded` floats; what is missing is zero. Rows are filled up to a whole tile.
template <DType T>
inline void PackPanel(const MatMulArgs& args, int n, int rows, int k, int depth, int padded,
                      float* panel) {
  const size_t row_bytes = static_cast<size_t>(args.cols) * SizeOf(T);
  for (int j = 0; j < rows || j % kTileWeights != 0; ++j) {
    float* to = panel + static_cast<size_t>(j) * static_cast<size_t>(padded);
    if (j >= rows) {
      for (int c = 0; c < padded; c += kLanes) Store(Zero(), to + c);
      continue;
    }
    const uint8_t* from =
        args.weight + static_cast<size_t>(n + j) * row_bytes + static_cast<size_t>(k) * SizeOf(T);
    int c = 0;
    for (; c + kLanes <= depth; c += kLanes) {
      Store(Widen<T>(from + static_cast<size_t>(c) * SizeOf(T)), to + c);
    }
    if (c < depth) {
      Store(WidenPartial<T>(from + static_cast<size_t>(c) * SizeOf(T), depth - c), to + c);
    }
  }
}

inline void PackInputs(const MatMulArgs& args, int row, int rows, int k, int depth, int padded,
                       float* to) {
  for (int i = 0; i < rows; ++i, to += padded) {
    const float* from = InputRow(args, row + i) + k;
    int c = 0;
    for (; c + kLanes <= depth; c += kLanes) Store(Load(from + c), to + c);
    if (c < depth) Store(LoadPartial(from + c, depth - c), to + c);
  }
}

// Adds up the lanes and writes the outputs of a block.
inline void FinishBlock(const MatMulArgs& args, int row, int rows, int n, int count,
                        const float* lanes) {
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < count; j += kLanes) {
      F32x16 sums[kLanes];
      for (int l = 0; l < kLanes; ++l) {
        sums[l] = j + l < count ? Load(lanes + static_cast<size_t>(i) * kLanesStride +
                                       static_cast<size_t>(j + l) * kLanes)
                                : Zero();
      }
      float dots[kLanes];
      Store(SumLanes16(sums), dots);
      for (int l = 0; l < kLanes && j + l < count; ++l) Finish(args, row + i, n + j + l, dots[l]);
    }
  }
}

template <DType T>
void BlockedMatMul(const MatMulArgs& args, int begin, int end, float* scratch) {
  float* panel = scratch;
  float* packed_inputs = panel + size_t{kPanelRows} * kSliceDepth;
  float* lanes = packed_inputs + size_t{kBlockRows} * kSliceDepth;
  for (int n = begin; n < end; n += kPanelRows) {
    const int count = end - n < kPanelRows ? end - n : kPanelRows;
    for (int row = 0; row < args.rows; row += kBlockRows) {
      const int rows = args.rows - row < kBlockRows ? args.rows - row : kBlockRows;
      for (int k = 0; k < args.cols; k += kSliceDepth) {
        const int depth = args.cols - k < kSliceDepth ? args.cols - k : kSliceDepth;
        const int padded = (depth + kLanes - 1) / kLanes * kLanes;
        PackPanel<T>(args, n, count, k, depth, padded, panel);
        const float* x = InputRow(args, row) + k;
        size_t x_stride = static_cast<size_t>(args.cols);
        if (depth != padded) {
          PackInputs(args, row, rows, k, depth, padded, packed_inputs);
          x = packed_inputs;
          x_stride = static_cast<size_t>(padded);
        }
        AccumulateBlock(x, x_stride, rows, panel, count, padded, k == 0, lanes);
      }
      FinishBlock(args, row, rows, n, count, lanes);
    }
  }
}

template <DType T>
void MatMulAs(const MatMulArgs& args, int begin, int end, float* scratch) {
  if (args.rows <= kGemvRows) return StreamMatMul<T>(args, begin, end);
  BlockedMatMul<T>(args, begin, end, scratch);
}

inline void MatMul(const MatMulArgs& args, int begin, int end, float* scratch) {
  switch (args.dtype) {
    case DType::kF32:
      return MatMulAs<DType::kF32>(args, begin, end, scratch);
    case DType::kF16:
      return MatMulAs<DType::kF16>(args, begin, end, scratch);
    case DType::kBF16:
      return MatMulAs<DType::kBF16>(args, begin, end, scratch);
    default:
      return;  // not a type of weights
  }
}

}  // namespace octogate::kernels::OCTOGATE_ISA
