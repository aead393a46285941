// Products of many rows with integer codes on the tile registers of AMX. The
// dot product of a group is exact, hence the same as that of other instruction
// sets; the groups are added as kernels/quantized_dot.h says.

#include <immintrin.h>

#include "kernels/cpu/quantized_table.h"

namespace octogate::kernels::amx {
namespace {

constexpr int kTileRows = 16;  // of x in a tile
constexpr int kGroupRows = kQuantizationGroup / 4;
constexpr size_t kInputTileBytes = size_t{kTileRows} * kQuantizationGroup;
constexpr int kPanels = 2;        // at once
constexpr int kRowsAtOnce = 128;  // of x, for which the codes are unpacked once
constexpr int kSliceGroups = 16;  // unpacked at a time

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

void ConfigureTiles() {
  TileConfig config;
  for (int i = 0; i < 4; ++i) {  // dot products
    config.row_bytes[i] = 64;
    config.rows[i] = kTileRows;
  }
  for (int i = 4; i < 6; ++i) {  // x
    config.row_bytes[i] = kQuantizationGroup;
    config.rows[i] = kTileRows;
  }
  for (int i = 6; i < 8; ++i) {  // weights
    config.row_bytes[i] = 64;
    config.rows[i] = kGroupRows;
  }
  _tile_loadconfig(&config);
}

// Codes of up to kSliceGroups groups of a panel as signed bytes, [8][16][4] a
// group.
template <WeightFormat F>
void Unpack(const uint8_t* from, int groups, int8_t* to) {
  if constexpr (F == WeightFormat::kInt4Group) {
    const __m512i low = _mm512_set1_epi8(0x0F);
    const __m512i zero = _mm512_set1_epi8(8);
    for (int g = 0; g < groups; ++g, from += kInt4GroupBytes, to += kInt8GroupBytes) {
      for (int i = 0; i < kGroupRows / 2; ++i) {
        const __m512i both = _mm512_loadu_si512(from + i * 64);
        __builtin_prefetch(from + i * 64 + kSliceGroups * kInt4GroupBytes);  // the next slice
        const __m512i first = _mm512_and_si512(both, low);
        const __m512i second = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
        _mm512_store_si512(to + i * 64, _mm512_sub_epi8(first, zero));
        _mm512_store_si512(to + (i + kGroupRows / 2) * 64, _mm512_sub_epi8(second, zero));
      }
    }
  } else {
    const __m512i sign = _mm512_set1_epi8(-128);
    for (int i = 0; i < groups * kGroupRows; ++i) {
      _mm512_store_si512(to + i * 64, _mm512_xor_si512(_mm512_loadu_si512(from + i * 64), sign));
    }
  }
}

// The integer dot products of one group, [X tiles of rows][kPanels][16][16].
template <int X>
void DotGroup(const int8_t* x, size_t x_tile_stride, const int8_t* codes, size_t panel_stride,
              int32_t* dots) {
  _tile_loadd(4, x, kQuantizationGroup);
  _tile_loadd(6, codes, 64);
  _tile_loadd(7, codes + panel_stride, 64);
  _tile_zero(0);
  _tile_zero(1);
  _tile_dpbssd(0, 4, 6);
  _tile_dpbssd(1, 4, 7);
  if constexpr (X == 2) {
    _tile_loadd(5, x + x_tile_stride, kQuantizationGroup);
    _tile_zero(2);
    _tile_zero(3);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  _tile_stored(0, dots, 64);
  _tile_stored(1, dots + 256, 64);
  if constexpr (X == 2) {
    _tile_stored(2, dots + 512, 64);
    _tile_stored(3, dots + 768, 64);
  }
}

// Adds a group to the sums, [X][kPanels][16][16].
template <WeightFormat F, int X>
void AddGroup(const int32_t* dots, const float* x_scales, size_t x_tile_scales,
              const uint16_t* group_scales, size_t panel_scales, float* sums) {
  for (int w = 0; w < kPanels; ++w) {
    __m512 scale = _mm512_setzero_ps();
    if constexpr (HasGroupScales(F)) {
      scale = _mm512_cvtph_ps(_mm256_loadu_si256(
          reinterpret_cast<const __m256i*>(group_scales + static_cast<size_t>(w) * panel_scales)));
    }
    for (int t = 0; t < X; ++t) {
      const float* from = x_scales + static_cast<size_t>(t) * x_tile_scales;
      const int32_t* tile = dots + (t * kPanels + w) * 256;
      float* to = sums + (t * kPanels + w) * 256;
      for (int i = 0; i < kTileRows; ++i) {
        const __m512 dot = _mm512_cvtepi32_ps(_mm512_load_si512(tile + i * 16));
        __m512 factor = _mm512_set1_ps(from[i]);
        if constexpr (HasGroupScales(F)) factor = _mm512_mul_ps(factor, scale);
        _mm512_store_ps(to + i * 16, _mm512_fmadd_ps(dot, factor, _mm512_load_ps(to + i * 16)));
      }
    }
  }
}

template <WeightFormat F, int X>
void AccumulateSlice(const int8_t* x, size_t x_tile_stride, const float* x_scales,
                     size_t x_tile_scales, const int8_t* codes, const uint16_t* group_scales,
                     size_t panel_scales, int groups, float* sums) {
  // The tiles work on the next group while the vector units add this one.
  alignas(64) int32_t dots[2][2 * kPanels * 256];
  constexpr size_t kPanelStride = kSliceGroups * kInt8GroupBytes;
  DotGroup<X>(x, x_tile_stride, codes, kPanelStride, dots[0]);
  for (int g = 0; g < groups; ++g) {
    if (g + 1 < groups) {
      DotGroup<X>(x + static_cast<size_t>(g + 1) * kInputTileBytes, x_tile_stride,
                  codes + static_cast<size_t>(g + 1) * kInt8GroupBytes, kPanelStride,
                  dots[(g + 1) % 2]);
    }
    const size_t scales = static_cast<size_t>(g) * kPanelOutputs;
    AddGroup<F, X>(dots[g % 2], x_scales + scales, x_tile_scales,
                   HasGroupScales(F) ? group_scales + scales : nullptr, panel_scales, sums);
  }
}

void Finish(const IntegerMatMulArgs& args, int row, int rows, int panel, const float* sums) {
  const int n = panel * kPanelOutputs;
  const int count = args.outputs - n < kPanelOutputs ? args.outputs - n : kPanelOutputs;
  const auto mask = static_cast<__mmask16>((1u << count) - 1u);
  for (int i = 0; i < rows; ++i) {
    float* y = args.out + static_cast<size_t>(row + i) * static_cast<size_t>(args.out_stride) + n;
    __m512 dot = _mm512_load_ps(sums + i * kPanelOutputs);
    if (args.format == WeightFormat::kInt8) {
      dot = _mm512_mul_ps(dot, _mm512_loadu_ps(args.row_scales + n));
    }
    if (args.bias != nullptr) {
      dot = _mm512_add_ps(dot, _mm512_maskz_loadu_ps(mask, args.bias + n));
    }
    if (args.accumulate) dot = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), dot);
    _mm512_mask_storeu_ps(y, mask, dot);
  }
}

// Outputs of rows [row, row + rows) of x and of `panels` panels (1 or kPanels).
template <WeightFormat F>
void BlockOutputs(const IntegerMatMulArgs& args, int row, int rows, int panel, int panels) {
  constexpr size_t kGroupBytes = F == WeightFormat::kInt4Group ? kInt4GroupBytes : kInt8GroupBytes;
  alignas(64) int8_t codes[kPanels * kSliceGroups * kInt8GroupBytes];
  alignas(64) float sums[kRowsAtOnce * kPanels * kPanelOutputs];
  const auto groups = static_cast<size_t>(args.groups);
  const size_t x_tile_stride = groups * kInputTileBytes;
  const size_t x_tile_scales = groups * kTileRows;
  const size_t panel_scales = panels == 1 ? 0 : groups * kPanelOutputs;
  const int tiles = (rows + kTileRows - 1) / kTileRows;
  __builtin_memset(sums, 0, sizeof(float) * static_cast<size_t>(tiles) * kPanels * 256);
  if (panels == 1) __builtin_memset(codes, 0, sizeof(codes));
  for (int g = 0; g < args.groups; g += kSliceGroups) {
    const int count = args.groups - g < kSliceGroups ? args.groups - g : kSliceGroups;
    for (int w = 0; w < panels; ++w) {
      const size_t first = static_cast<size_t>(panel + w) * groups + static_cast<size_t>(g);
      Unpack<F>(args.codes + first * kGroupBytes, count,
                codes + w * kSliceGroups * kInt8GroupBytes);
    }
    const uint16_t* group_scales = nullptr;
    if constexpr (HasGroupScales(F)) {
      group_scales = args.group_scales +
                     (static_cast<size_t>(panel) * groups + static_cast<size_t>(g)) * kPanelOutputs;
    }
    for (int tile = 0; tile < tiles; tile += 2) {
      const auto t = static_cast<size_t>(row / kTileRows + tile);
      const int8_t* x = args.x + t * x_tile_stride + static_cast<size_t>(g) * kInputTileBytes;
      const float* x_scales =
          args.x_scales + t * x_tile_scales + static_cast<size_t>(g) * kTileRows;
      const auto accumulate = tile + 1 < tiles ? AccumulateSlice<F, 2> : AccumulateSlice<F, 1>;
      accumulate(x, x_tile_stride, x_scales, x_tile_scales, codes, group_scales, panel_scales,
                 count, sums + tile * kPanels * 256);
    }
  }
  for (int tile = 0; tile < tiles; ++tile) {
    const int first = tile * kTileRows;
    const int count = rows - first < kTileRows ? rows - first : kTileRows;
    for (int w = 0; w < panels; ++w) {
      Finish(args, row + first, count, panel + w, sums + (tile * kPanels + w) * 256);
    }
  }
}

template <WeightFormat F>
void IntegerMatMulAs(const IntegerMatMulArgs& args, int begin, int end) {
  ConfigureTiles();
  for (int panel = begin; panel < end; panel += kPanels) {
    const int panels = end - panel < kPanels ? end - panel : kPanels;
    for (int row = 0; row < args.rows; row += kRowsAtOnce) {
      const int rows = args.rows - row < kRowsAtOnce ? args.rows - row : kRowsAtOnce;
      BlockOutputs<F>(args, row, rows, panel, panels);
    }
  }
  _tile_release();
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

// Into [row / 16][group][row % 16].
void QuantizeInput(const float* x, int cols, int row, const QuantizedInput& to) {
  static const auto quantize = Avx512VnniQuantizedKernels().quantize_input;
  const int groups = (cols + kQuantizationGroup - 1) / kQuantizationGroup;
  for (int g = 0; g < groups; ++g) {
    const int first = g * kQuantizationGroup;
    const int count = cols - first < kQuantizationGroup ? cols - first : kQuantizationGroup;
    const size_t place = (static_cast<size_t>(row / kTileRows) * static_cast<size_t>(groups) +
                          static_cast<size_t>(g)) *
                             kTileRows +
                         static_cast<size_t>(row % kTileRows);
    quantize(x + first, count, 0,
             {to.codes + place * kQuantizationGroup, to.scales + place, to.sums + place});
  }
}

constexpr QuantizedKernelTable kTable = {
    .quantize_input = QuantizeInput,
    .matmul_integer = IntegerMatMul,
};

}  // namespace
}  // namespace octogate::kernels::amx

namespace octogate::kernels {

const QuantizedKernelTable& AmxQuantizedKernels() { return amx::kTable; }

}  // namespace octogate::kernels
