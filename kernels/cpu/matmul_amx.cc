#include "kernels/cpu/matmul_amx.h"

#include <immintrin.h>

namespace octogate::kernels::amx {
namespace {

constexpr int kTileRows = 16;  // of x in a tile
constexpr int kPairRows = 2 * kTileRows;
// Rows of x that share a slice of two panels in the first-level cache, beside
// their sums, and the blocks of columns of such a slice.
constexpr int kRowsAtOnce = 128;
constexpr int kSliceBlocks = 8;
constexpr size_t kTileBytes = 1024;
constexpr int kTileStride = 64;

// Sums of up to 2 x 2 tiles stay in tile registers 0 to 3; 4 and 5 hold rows of
// x, 6 and 7 weights.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

void ConfigureTiles(int rows) {
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.row_bytes[i] = kTileStride;
    config.rows[i] = kTileRows;
  }
  // The second tile of rows may be the shorter one; a lone tile is the first.
  const int first = rows < kTileRows ? rows : kTileRows;
  const int second = rows > kTileRows ? rows - kTileRows : kTileRows;
  config.rows[0] = config.rows[1] = config.rows[4] = static_cast<uint8_t>(first);
  config.rows[2] = config.rows[3] = config.rows[5] = static_cast<uint8_t>(second);
  _tile_loadconfig(&config);
}

// Adds the products of `blocks` blocks of columns to `dots`, [X tiles of rows][2
// panels][16][16].
template <int X, int W>
void DotTiles(const uint8_t* x, size_t x_tile_bytes, const uint8_t* panel, size_t panel_bytes,
              int blocks, bool first, float* dots) {
  if (first) {
    _tile_zero(0);
    if constexpr (W == 2) _tile_zero(1);
    if constexpr (X == 2) _tile_zero(2);
    if constexpr (X == 2 && W == 2) _tile_zero(3);
  } else {
    _tile_loadd(0, dots, kTileStride);
    if constexpr (W == 2) _tile_loadd(1, dots + 256, kTileStride);
    if constexpr (X == 2) _tile_loadd(2, dots + 512, kTileStride);
    if constexpr (X == 2 && W == 2) _tile_loadd(3, dots + 768, kTileStride);
  }
  for (int block = 0; block < blocks; ++block) {
    _tile_loadd(6, panel, kTileStride);
    if constexpr (W == 2) _tile_loadd(7, panel + panel_bytes, kTileStride);
    _tile_loadd(4, x, kTileStride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (W == 2) _tile_dpbf16ps(1, 4, 7);
    if constexpr (X == 2) {
      _tile_loadd(5, x + x_tile_bytes, kTileStride);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (W == 2) _tile_dpbf16ps(3, 5, 7);
    }
    panel += kTileBytes;
    x += kTileBytes;
  }
  _tile_stored(0, dots, kTileStride);
  if constexpr (W == 2) _tile_stored(1, dots + 256, kTileStride);
  if constexpr (X == 2) _tile_stored(2, dots + 512, kTileStride);
  if constexpr (X == 2 && W == 2) _tile_stored(3, dots + 768, kTileStride);
}

void Finish(const MatMulArgs& args, int row, int rows, int panel, const float* dots) {
  const int n = panel * kPanelOutputs;
  const int count = args.outputs - n < kPanelOutputs ? args.outputs - n : kPanelOutputs;
  const auto mask = static_cast<__mmask16>((1u << count) - 1u);
  const __m512 bias =
      args.bias != nullptr ? _mm512_maskz_loadu_ps(mask, args.bias + n) : _mm512_setzero_ps();
  for (int i = 0; i < rows; ++i) {
    float* y = args.out + static_cast<size_t>(row + i) * static_cast<size_t>(args.out_stride) + n;
    __m512 dot = _mm512_load_ps(dots + i * kPanelOutputs);
    if (args.bias != nullptr) dot = _mm512_add_ps(dot, bias);
    if (args.accumulate) dot = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), dot);
    _mm512_mask_storeu_ps(y, mask, dot);
  }
}

// Outputs of `rows` rows of x, at most kRowsAtOnce, and one or two panels.
void BlockOutputs(const MatMulArgs& args, int row, int rows, int panel, int panels) {
  alignas(64) float dots[kRowsAtOnce / kTileRows * 2 * 256];
  const size_t x_tile_bytes = static_cast<size_t>(args.blocks) * kTileBytes;
  const uint8_t* x =
      static_cast<const uint8_t*>(args.x) + static_cast<size_t>(row / kTileRows) * x_tile_bytes;
  const uint8_t* weights = args.panels + static_cast<size_t>(panel) * args.panel_bytes;
  // Few rows read a panel once, as one stream.
  const int slice = rows <= kPairRows ? args.blocks : kSliceBlocks;
  int configured = 0;
  for (int block = 0; block < args.blocks; block += slice) {
    const int blocks = args.blocks - block < slice ? args.blocks - block : slice;
    const size_t at = static_cast<size_t>(block) * kTileBytes;
    for (int first = 0; first < rows; first += kPairRows) {
      const int count = rows - first < kPairRows ? rows - first : kPairRows;
      if (count != configured) ConfigureTiles(count);
      configured = count;
      const auto dot = [&](auto function) {
        function(x + static_cast<size_t>(first / kTileRows) * x_tile_bytes + at, x_tile_bytes,
                 weights + at, args.panel_bytes, blocks, block == 0,
                 dots + first / kTileRows * 512);
      };
      if (count > kTileRows) {
        dot(panels == 2 ? DotTiles<2, 2> : DotTiles<2, 1>);
      } else {
        dot(panels == 2 ? DotTiles<1, 2> : DotTiles<1, 1>);
      }
    }
  }
  for (int i = 0; i < rows; i += kTileRows) {
    const int count = rows - i < kTileRows ? rows - i : kTileRows;
    for (int w = 0; w < panels; ++w) {
      Finish(args, row + i, count, panel + w, dots + (i / kTileRows * 2 + w) * 256);
    }
  }
}

size_t RoundedRowBytes(int cols) {
  return static_cast<size_t>((cols + kBlockColumns - 1) / kBlockColumns) * kTileStride;
}

void RoundInputs(const float* x, int cols, int row, void* inputs) {
  const int blocks = (cols + kBlockColumns - 1) / kBlockColumns;
  auto* to = static_cast<uint8_t*>(inputs) +
             static_cast<size_t>(row / kTileRows) * static_cast<size_t>(blocks) * kTileBytes +
             static_cast<size_t>(row % kTileRows) * kTileStride;
  const __m512i rounder = _mm512_set1_epi32(0x7FFF);
  const __m512i one = _mm512_set1_epi32(1);
  const __m512i quiet = _mm512_set1_epi32(0x400000);
  const auto narrow = [&](int c) {
    const int left = cols - c;
    const __mmask16 mask = left >= 16 ? __mmask16{0xFFFF}
                           : left > 0 ? static_cast<__mmask16>((1u << left) - 1u)
                                      : __mmask16{0};
    const __m512 values = _mm512_maskz_loadu_ps(mask, x + (left > 0 ? c : 0));
    const __m512i bits = _mm512_castps_si512(values);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(rounder, odd));
    const __mmask16 nan = _mm512_cmp_ps_mask(values, values, _CMP_UNORD_Q);
    const __m512i result = _mm512_mask_or_epi32(rounded, nan, bits, quiet);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(result, 16));
  };
  for (int block = 0; block < blocks; ++block, to += kTileBytes) {
    const int c = block * kBlockColumns;
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), narrow(c));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to + 32), narrow(c + 16));
  }
}

void MatMulBf16(const MatMulArgs& args, int begin, int end, float* /*scratch*/) {
  // As many rows of x at a time as stay in the second-level cache, so that each
  // panel is read once for all of them.
  constexpr size_t kCacheBytes = size_t{1} << 20;
  const size_t row_bytes = static_cast<size_t>(args.blocks) * kBlockColumns * 2;
  const size_t fitting = kCacheBytes / (row_bytes * kRowsAtOnce) * kRowsAtOnce;
  const int step = fitting < kRowsAtOnce ? kRowsAtOnce : static_cast<int>(fitting);
  for (int first = 0; first < args.rows; first += step) {
    const int last = args.rows - first < step ? args.rows : first + step;
    for (int panel = begin; panel < end; panel += 2) {
      for (int row = first; row < last; row += kRowsAtOnce) {
        BlockOutputs(args, row, last - row < kRowsAtOnce ? last - row : kRowsAtOnce, panel,
                     end - panel < 2 ? 1 : 2);
      }
    }
  }
  _tile_release();
}

}  // namespace

PackedProducts Products() {
  return {.rows_together = kTileRows,
          .row_bytes = RoundedRowBytes,
          .pack_inputs = RoundInputs,
          .matmul = MatMulBf16};
}

}  // namespace octogate::kernels::amx
