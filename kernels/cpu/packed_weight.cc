#include "kernels/cpu/packed_weight.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "kernels/cpu/quantized_table.h"
#include "kernels/float16.h"
#include "kernels/quantize.h"

namespace octogate::kernels {
namespace {

// Where columns 4 q to 4 q + 3 of a group stand in a panel's group: byte of
// output 0, and the shift of their bits.
struct QuadPlace {
  size_t byte;
  unsigned shift;
};

QuadPlace PlaceOf(WeightFormat format, int quad) {
  constexpr int kQuads = kQuantizationGroup / 4;
  if (format != WeightFormat::kInt4Group) return {static_cast<size_t>(quad) * 64, 0};
  return {static_cast<size_t>(quad % (kQuads / 2)) * 64, quad < kQuads / 2 ? 0u : 4u};
}

size_t GroupBytes(WeightFormat format) {
  return format == WeightFormat::kInt4Group ? kInt4GroupBytes : kInt8GroupBytes;
}

// What the kernels read for a code of zero.
uint8_t ZeroByte(WeightFormat format) { return format == WeightFormat::kInt4Group ? 0x88 : 0x80; }

}  // namespace

std::unique_ptr<PackedWeight> PackedWeight::Make(const HostMatrix& matrix, WeightFormat format,
                                                 ThreadPool& pool) {
  if (matrix.cols > kMaxQuantizedColumns) return nullptr;
  std::unique_ptr<PackedWeight> weight(new (std::nothrow) PackedWeight);
  if (weight == nullptr) return nullptr;
  weight->rows = matrix.rows;
  weight->cols = matrix.cols;
  weight->format = format;
  weight->groups_ = QuantizationGroups(matrix.cols);
  weight->panels_ = matrix.rows / kPanelOutputs + (matrix.rows % kPanelOutputs != 0 ? 1 : 0);
  weight->panel_bytes_ = static_cast<size_t>(weight->groups_) * GroupBytes(format);
  const auto panels = static_cast<size_t>(weight->panels_);
  const auto groups = static_cast<size_t>(weight->groups_);
  const size_t code_bytes = panels * weight->panel_bytes_;
  const size_t scales = panels * kPanelOutputs * (HasGroupScales(format) ? groups : 1);
  weight->codes_ = AllocateHost<uint8_t>(code_bytes);
  if (HasGroupScales(format)) {
    weight->group_scales_ = AllocateHost<uint16_t>(scales);
    weight->bytes = code_bytes + scales * sizeof(uint16_t);
  } else {
    weight->row_scales_ = AllocateHost<float>(scales);
    weight->bytes = code_bytes + scales * sizeof(float);
  }
  const auto threads = static_cast<size_t>(pool.threads());
  const auto cols = static_cast<size_t>(matrix.cols);
  const size_t row_bytes = QuantizedRowBytes(format, matrix.cols);
  const HostArray<float> values = AllocateHost<float>(threads * cols);
  const HostArray<uint8_t> row_codes = AllocateHost<uint8_t>(threads * row_bytes);
  const HostArray<uint16_t> row_scales = AllocateHost<uint16_t>(threads * groups);
  const HostArray<QuantizationSums> sums = AllocateHost<QuantizationSums>(panels);
  if (weight->codes_ == nullptr ||
      (weight->group_scales_ == nullptr && weight->row_scales_ == nullptr) || values == nullptr ||
      row_codes == nullptr || row_scales == nullptr || sums == nullptr) {
    return nullptr;
  }
  pool.Run(weight->panels_, [&](int panel, int thread) {
    const auto t = static_cast<size_t>(thread);
    const auto p = static_cast<size_t>(panel);
    float* row_values = values.get() + t * cols;
    uint8_t* codes = row_codes.get() + t * row_bytes;
    uint16_t* group_scales = row_scales.get() + t * groups;
    std::memset(weight->codes_.get() + p * weight->panel_bytes_, ZeroByte(format),
                weight->panel_bytes_);
    if (HasGroupScales(format)) {
      std::fill_n(weight->group_scales_.get() + p * groups * kPanelOutputs, groups * kPanelOutputs,
                  uint16_t{0});
    } else {
      std::fill_n(weight->row_scales_.get() + p * kPanelOutputs, kPanelOutputs, 0.0f);
    }
    QuantizationSums panel_sums;
    const int end = std::min(matrix.rows, (panel + 1) * kPanelOutputs);
    for (int r = panel * kPanelOutputs; r < end; ++r) {
      float row_scale = 0;
      WidenRow(matrix, r, row_values);
      panel_sums.Add(QuantizeRow(format, row_values, matrix.cols, codes, &row_scale, group_scales));
      weight->PackRow(r, codes, row_scale, group_scales);
    }
    sums[p] = panel_sums;
  });
  QuantizationSums total;
  for (size_t p = 0; p < panels; ++p) total.Add(sums[p]);
  weight->error = total.Error();
  return weight;
}

void PackedWeight::PackRow(int row, const uint8_t* codes, float row_scale,
                           const uint16_t* group_scales) {
  const auto r = static_cast<size_t>(row);
  const size_t panel = r / kPanelOutputs;
  const size_t lane = r % kPanelOutputs;
  if (HasGroupScales(format)) {
    for (size_t g = 0; g < static_cast<size_t>(groups_); ++g) {
      group_scales_[(panel * static_cast<size_t>(groups_) + g) * kPanelOutputs + lane] =
          group_scales[g];
    }
  } else {
    row_scales_[r] = row_scale;
  }
  uint8_t* to = codes_.get() + panel * panel_bytes_ + 4 * lane;
  for (int g = 0; g < groups_; ++g, to += GroupBytes(format)) {
    if (format == WeightFormat::kInt4Group) {
      const uint8_t* from = codes + static_cast<size_t>(g) * kQuantizationGroup / 2;
      const auto nibble = [&](int c) { return (from[c / 2] >> (c % 2 == 0 ? 0 : 4)) & 0xF; };
      for (int c = 0; c < kQuantizationGroup / 2; ++c) {
        to[PlaceOf(format, c / 4).byte + static_cast<size_t>(c % 4)] =
            static_cast<uint8_t>(nibble(c) | (nibble(c + kQuantizationGroup / 2) << 4));
      }
    } else {
      const uint8_t* from = codes + static_cast<size_t>(g) * kQuantizationGroup;
      for (int c = 0; c < kQuantizationGroup; ++c) {
        to[PlaceOf(format, c / 4).byte + static_cast<size_t>(c % 4)] =
            static_cast<uint8_t>(from[c] ^ 0x80u);  // code + 128
      }
    }
  }
}

void PackedWeight::Dequantize(int row, float* out) const {
  const auto r = static_cast<size_t>(row);
  const size_t panel = r / kPanelOutputs;
  const size_t lane = r % kPanelOutputs;
  for (int c = 0; c < cols; ++c) {
    const int g = c / kQuantizationGroup;
    const QuadPlace place = PlaceOf(format, c % kQuantizationGroup / 4);
    const uint8_t byte = codes_[panel * panel_bytes_ + static_cast<size_t>(g) * GroupBytes(format) +
                                place.byte + 4 * lane + static_cast<size_t>(c % 4)];
    const int code =
        format == WeightFormat::kInt4Group ? ((byte >> place.shift) & 0xF) - 8 : byte - 128;
    const float scale =
        HasGroupScales(format)
            ? Float16ToFloat(
                  group_scales_[(panel * static_cast<size_t>(groups_) + static_cast<size_t>(g)) *
                                    kPanelOutputs +
                                lane])
            : row_scales_[r];
    out[c] = scale * static_cast<float>(code);
  }
}

}  // namespace octogate::kernels
