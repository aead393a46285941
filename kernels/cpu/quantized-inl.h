// Products with weights that have integer codes; included once per instruction set, after its
// lanes (f32x16_*.h) and codes (codes_*.h). No include guard.
//
// Sixteen outputs stand in the lanes of a register, so that a group's dot
// products need no sum across lanes, and a panel is read as one stream.

namespace octogate::kernels::OCTOGATE_ISA {

void QuantizeInput(const float* x, int cols, int row, const QuantizedInput& to) {
  static_assert(kQuantizationGroup == 2 * kLanes, "as the two halves below need");
  const size_t group = static_cast<size_t>(row) *
                       static_cast<size_t>((cols + kQuantizationGroup - 1) / kQuantizationGroup);
  int8_t* codes = to.codes + group * kQuantizationGroup;
  float* scales = to.scales + group;
  int32_t* sums = to.sums + group;
  const F32x16 rounder = Broadcast(12582912.0f);  // 1.5 * 2^23: rounds to integer
  for (int first = 0; first < cols; first += kQuantizationGroup) {
    const int left = cols - first;
    F32x16 half[2];
    half[0] = left >= kLanes ? Load(x + first) : LoadPartial(x + first, left);
    half[1] = left >= 2 * kLanes ? Load(x + first + kLanes)
              : left > kLanes    ? LoadPartial(x + first + kLanes, left - kLanes)
                                 : Zero();
    const float largest = MaximumLane(Maximum(Abs(half[0]), Abs(half[1])));
    const float odd = SumLanes(half[0] * Zero() + half[1] * Zero());  // NaN, or a zero
    const bool zero = odd != 0.0f || largest < 0x1p-100f;
    *scales++ = odd != 0.0f ? __builtin_nanf("") : zero ? 0.0f : largest / 127;
    int sum = 0;
    if (zero) {
      for (int i = 0; i < kQuantizationGroup; ++i) codes[i] = 0;
    } else {
      const F32x16 inverse = Broadcast(127 / largest);
      float rounded[kQuantizationGroup];
      for (int h = 0; h < 2; ++h) {
        Store((half[h] * inverse + rounder) - rounder, rounded + h * kLanes);
      }
      for (int i = 0; i < kQuantizationGroup; ++i) {
        const int code = static_cast<int>(rounded[i]);
        codes[i] = static_cast<int8_t>(code);
        sum += code;
      }
    }
    *sums++ = sum;
    codes += kQuantizationGroup;
  }
}

inline void FinishOutput(float dot, const float* bias, int n, bool accumulate, float* y) {
  if (bias != nullptr) dot += bias[n];
  *y = accumulate ? *y + dot : dot;
}

// How far ahead of those that are read a panel's codes are asked for, in bytes, and
// its scales, in numbers: several streams at once are more than what the processor
// fetches ahead by itself, and a row that reads one panel is as fast as it comes.
constexpr size_t CodesAhead(int rows, int panels) { return rows * panels == 1 ? 4096 : 2048; }
constexpr size_t ScalesAhead(int rows, int panels) { return rows * panels == 1 ? 2048 : 256; }

// Outputs of X rows of x and W panels.
template <WeightFormat F, int X, int W>
inline void IntegerTile(const IntegerMatMulArgs& args, int row, int panel) {
  constexpr bool kNibbles = F == WeightFormat::kInt4Group;
  using Dot = std::conditional_t<kNibbles, Int4Dot, Int8Dot>;
  constexpr size_t kGroupBytes = kNibbles ? kInt4GroupBytes : kInt8GroupBytes;
  constexpr int kSteps = static_cast<int>(kGroupBytes) / 64;
  const auto groups = static_cast<size_t>(args.groups);
  const uint8_t* codes[W];
  const uint16_t* scales[W];
  for (int w = 0; w < W; ++w) {
    const auto p = static_cast<size_t>(panel + w);
    codes[w] = args.codes + p * groups * kGroupBytes;
    if constexpr (HasGroupScales(F)) scales[w] = args.group_scales + p * groups * kPanelOutputs;
  }
  const int8_t* x = args.x + static_cast<size_t>(row) * groups * kQuantizationGroup;
  const float* x_scales = args.x_scales + static_cast<size_t>(row) * groups;
  const int32_t* x_sums = args.x_sums + static_cast<size_t>(row) * groups;
  F32x16 sums[X][W];
  for (int i = 0; i < X; ++i) {
    for (int w = 0; w < W; ++w) sums[i][w] = Zero();
  }
  for (size_t g = 0; g < groups; ++g) {
    Dot dots[X][W];
    for (int i = 0; i < X; ++i) {
      const Dot start = Dot::Start(x_sums[static_cast<size_t>(i) * groups + g]);
      for (int w = 0; w < W; ++w) dots[i][w] = start;
    }
    for (int step = 0; step < kSteps; ++step) {
      Codes loaded[W];
      for (int w = 0; w < W; ++w) {
        loaded[w] = LoadCodes(codes[w] + step * 64);
        __builtin_prefetch(codes[w] + step * 64 + CodesAhead(X, W));
      }
      for (int i = 0; i < X; ++i) {
        const int8_t* from =
            x + (static_cast<size_t>(i) * groups + g) * kQuantizationGroup + step * 4;
        if constexpr (kNibbles) {
          const Quad low = BroadcastQuad(from);
          const Quad high = BroadcastQuad(from + kQuantizationGroup / 2);
          for (int w = 0; w < W; ++w) {
            dots[i][w].Add(LowNibbles(loaded[w]), low);
            dots[i][w].Add(HighNibbles(loaded[w]), high);
          }
        } else {
          const Quad quad = BroadcastQuad(from);
          for (int w = 0; w < W; ++w) dots[i][w].Add(loaded[w], quad);
        }
      }
    }
    for (int w = 0; w < W; ++w) {
      codes[w] += kGroupBytes;
      F32x16 scale;
      if constexpr (HasGroupScales(F)) {
        scale = Widen<DType::kF16>(scales[w]);
        __builtin_prefetch(scales[w] + ScalesAhead(X, W));
        scales[w] += kPanelOutputs;
      }
      for (int i = 0; i < X; ++i) {
        F32x16 factor = Broadcast(x_scales[static_cast<size_t>(i) * groups + g]);
        if constexpr (HasGroupScales(F)) factor = factor * scale;
        sums[i][w] = Fma(dots[i][w].Result(), factor, sums[i][w]);
      }
    }
  }
  for (int w = 0; w < W; ++w) {
    const int n = (panel + w) * kPanelOutputs;
    const int count = args.outputs - n < kPanelOutputs ? args.outputs - n : kPanelOutputs;
    for (int i = 0; i < X; ++i) {
      F32x16 total = sums[i][w];
      if constexpr (!HasGroupScales(F)) total = total * Load(args.row_scales + n);
      float lanes[kPanelOutputs];
      Store(total, lanes);
      float* y = args.out + static_cast<size_t>(row + i) * static_cast<size_t>(args.out_stride) + n;
      for (int l = 0; l < count; ++l) {
        FinishOutput(lanes[l], args.bias, n + l, args.accumulate, y + l);
      }
    }
  }
}

template <WeightFormat F, int X>
inline void IntegerPanels(const IntegerMatMulArgs& args, int row, int begin, int end) {
  constexpr int kAtOnce = PanelsFor(X);
  int panel = begin;
  for (; panel + kAtOnce <= end; panel += kAtOnce) IntegerTile<F, X, kAtOnce>(args, row, panel);
  for (; panel < end; ++panel) IntegerTile<F, X, 1>(args, row, panel);
}

template <WeightFormat F, int X = kMaxTileRows>
inline void IntegerRows(const IntegerMatMulArgs& args, int row, int count, int begin, int end) {
  if constexpr (X > 0) {
    if (count == X) return IntegerPanels<F, X>(args, row, begin, end);
    IntegerRows<F, X - 1>(args, row, count, begin, end);
  }
}

template <WeightFormat F>
void IntegerMatMulAs(const IntegerMatMulArgs& args, int begin, int end) {
  // Rows of x in tiles of about the same height; a few panels at a time, so that
  // later tiles find them in the cache.
  constexpr int kCachedPanels = 4;
  const int tiles = (args.rows + kMaxTileRows - 1) / kMaxTileRows;
  for (int panel = begin; panel < end; panel += kCachedPanels) {
    const int last = panel + kCachedPanels < end ? panel + kCachedPanels : end;
    int row = 0;
    for (int tile = tiles; tile > 0; --tile) {
      const int count = (args.rows - row + tile - 1) / tile;
      IntegerRows<F>(args, row, count, panel, last);
      row += count;
    }
  }
}

void IntegerMatMul(const IntegerMatMulArgs& args, int begin, int end) {
  switch (args.format) {
    case WeightFormat::kInt8:
      return IntegerMatMulAs<WeightFormat::kInt8>(args, begin, end);
    case WeightFormat::kInt8Group:
      return IntegerMatMulAs<WeightFormat::kInt8Group>(args, begin, end);
    case WeightFormat::kInt4Group:
      return IntegerMatMulAs<WeightFormat::kInt4Group>(args, begin, end);
    default:
      return;
  }
}

inline constexpr QuantizedKernelTable kQuantizedTable = {
    .quantize_input = QuantizeInput,
    .matmul_integer = IntegerMatMul,
};

}  // namespace octogate::kernels::OCTOGATE_ISA
