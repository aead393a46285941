// Products with weights that have integer codes; included once per instruction set, after its
// lanes (f32x16_*.h) and codes (codes_*.h). No include guard.
//
// Sixteen outputs stand in the lanes of a register, so that a group's dot
// products need no sum across lanes, and a panel is read as one stream.

#include "kernels/cpu/finish_outputs-inl.h"

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

// How far ahead of those that are read a panel's codes are asked for, in bytes, and its scales, in
// numbers: across its end too, where the next one follows. One panel at a time is as fast as it
// comes.
constexpr size_t CodesAhead(int rows) { return rows == 1 ? 8192 : 4096; }
inline constexpr size_t kScalesAhead = 2048;

// Outputs of X rows of x and a panel.
template <WeightFormat F, int X>
__attribute__((noinline)) void IntegerTile(const IntegerMatMulArgs& args, int row, int panel) {
  constexpr bool kNibbles = F == WeightFormat::kInt4Group;
  using Dot = std::conditional_t<kNibbles, Int4Dot, Int8Dot>;
  constexpr size_t kGroupBytes = kNibbles ? kInt4GroupBytes : kInt8GroupBytes;
  constexpr int kSteps = static_cast<int>(kGroupBytes) / 64;
  const auto groups = static_cast<size_t>(args.groups);
  const size_t first_group = static_cast<size_t>(panel) * groups;
  const uint8_t* codes = args.codes + first_group * kGroupBytes;
  const uint16_t* scales = nullptr;
  if constexpr (HasGroupScales(F)) scales = args.group_scales + first_group * kPanelOutputs;
  const int8_t* x = args.x + static_cast<size_t>(row) * groups * kQuantizationGroup;
  const float* x_scales = args.x_scales + static_cast<size_t>(row) * groups;
  const int32_t* x_sums = args.x_sums + static_cast<size_t>(row) * groups;
  F32x16 sums[X];
  for (int i = 0; i < X; ++i) sums[i] = Zero();
  for (size_t g = 0; g < groups; ++g) {
    Dot dots[X];
    for (int i = 0; i < X; ++i) dots[i] = Dot::Start(x_sums[static_cast<size_t>(i) * groups + g]);
    for (int step = 0; step < kSteps; ++step) {
      const Codes loaded = LoadCodes(codes + step * 64);
      __builtin_prefetch(codes + step * 64 + CodesAhead(X));
      for (int i = 0; i < X; ++i) {
        const int8_t* from =
            x + (static_cast<size_t>(i) * groups + g) * kQuantizationGroup + step * 4;
        if constexpr (kNibbles) {
          dots[i].Add(LowNibbles(loaded), BroadcastQuad(from));
          dots[i].Add(HighNibbles(loaded), BroadcastQuad(from + kQuantizationGroup / 2));
        } else {
          dots[i].Add(loaded, BroadcastQuad(from));
        }
      }
    }
    codes += kGroupBytes;
    F32x16 scale;
    if constexpr (HasGroupScales(F)) {
      scale = Widen<DType::kF16>(scales);
      __builtin_prefetch(scales + kScalesAhead);
      scales += kPanelOutputs;
    }
    for (int i = 0; i < X; ++i) {
      F32x16 factor = Broadcast(x_scales[static_cast<size_t>(i) * groups + g]);
      if constexpr (HasGroupScales(F)) factor = factor * scale;
      sums[i] = Fma(dots[i].Result(), factor, sums[i]);
    }
  }
  const int n = panel * kPanelOutputs;
  const int count = args.outputs - n < kPanelOutputs ? args.outputs - n : kPanelOutputs;
  for (int i = 0; i < X; ++i) {
    F32x16 total = sums[i];
    if constexpr (!HasGroupScales(F)) total = total * Load(args.row_scales + n);
    FinishOutputs(
        total, args.bias, n, count, args.accumulate,
        args.out + static_cast<size_t>(row + i) * static_cast<size_t>(args.out_stride) + n);
  }
}

template <WeightFormat F, int X = kMaxTileRows>
inline void IntegerRows(const IntegerMatMulArgs& args, int row, int count, int begin, int end) {
  if constexpr (X > 0) {
    if (count != X) return IntegerRows<F, X - 1>(args, row, count, begin, end);
    for (int panel = begin; panel < end; ++panel) IntegerTile<F, X>(args, row, panel);
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
