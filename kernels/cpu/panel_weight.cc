#include "kernels/cpu/panel_weight.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "kernels/cpu/kernel_table.h"
#include "kernels/float16.h"
#include "kernels/float8.h"
#include "kernels/quantize.h"

namespace octogate::kernels {
namespace {

DType PanelDType(DType stored, WeightFormat format) {
  if (format == WeightFormat::kFp8) return DType::kF8E4M3;
  return format == WeightFormat::kBf16 ? DType::kBF16 : stored;
}

float WidenElement(DType dtype, const uint8_t* from) {
  if (dtype == DType::kF8E4M3) return Float8ToFloat(*from);
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, from, sizeof(bits));
  return dtype == DType::kF16 ? Float16ToFloat(bits) : BFloat16ToFloat(bits);
}

// Where in a panel the element of output `lane` and column c stands, counted in elements.
size_t PlaceOf(DType dtype, size_t lane, size_t c) {
  switch (dtype) {
    case DType::kBF16:
      return (c / 2 * kPanelOutputs + lane) * 2 + c % 2;
    case DType::kF8E4M3:
      return c / 4 * 4 * kPanelOutputs + lane / 4 * 16 + c / 2 % 2 * 8 + lane % 4 * 2 + c % 2;
    default:
      return c * kPanelOutputs + lane;
  }
}

// Puts the elements of a row into their places.
template <DType T>
void Spread(const uint8_t* from, size_t count, size_t lane, uint8_t* panel) {
  constexpr size_t kBytes = SizeOf(T);
  for (size_t c = 0; c < count; ++c) {
    std::memcpy(panel + PlaceOf(T, lane, c) * kBytes, from + c * kBytes, kBytes);
  }
}

}  // namespace

std::unique_ptr<PanelWeight> PanelWeight::Make(const HostMatrix& matrix, WeightFormat format,
                                               ThreadPool& pool) {
  if (IsQuantized(format) && matrix.cols > kMaxQuantizedColumns) return nullptr;
  std::unique_ptr<PanelWeight> weight(new (std::nothrow) PanelWeight);
  if (weight == nullptr) return nullptr;
  weight->rows = matrix.rows;
  weight->cols = matrix.cols;
  weight->format = format;
  weight->dtype_ = PanelDType(matrix.dtype, format);
  weight->panels_ = matrix.rows / kPanelOutputs + (matrix.rows % kPanelOutputs != 0 ? 1 : 0);
  weight->blocks_ = matrix.cols / kBlockColumns + (matrix.cols % kBlockColumns != 0 ? 1 : 0);
  const size_t element = SizeOf(weight->dtype_);
  weight->panel_bytes_ =
      static_cast<size_t>(weight->blocks_) * kBlockColumns * kPanelOutputs * element;
  const auto panels = static_cast<size_t>(weight->panels_);
  const auto cols = static_cast<size_t>(matrix.cols);
  weight->bytes = panels * weight->panel_bytes_;
  weight->data_ = AllocateHost<uint8_t>(weight->bytes);
  if (weight->data_ == nullptr) return nullptr;
  if (format == WeightFormat::kFp8) {
    weight->row_scales_ = AllocateHost<float>(panels * kPanelOutputs);
    if (weight->row_scales_ == nullptr) return nullptr;
    std::fill_n(weight->row_scales_.get(), panels * kPanelOutputs, 0.0f);
    weight->bytes += panels * kPanelOutputs * sizeof(float);
  }

  const bool as_stored = weight->dtype_ == matrix.dtype;
  const auto threads = static_cast<size_t>(pool.threads());
  const size_t row_bytes = as_stored ? 0 : QuantizedRowBytes(format, matrix.cols);
  HostArray<float> values;
  HostArray<uint8_t> codes;
  HostArray<QuantizationSums> sums;
  if (!as_stored) {
    values = AllocateHost<float>(threads * cols);
    codes = AllocateHost<uint8_t>(threads * row_bytes);
    sums = AllocateHost<QuantizationSums>(panels);
    if (values == nullptr || codes == nullptr || sums == nullptr) return nullptr;
  }
  pool.Run(weight->panels_, [&](int panel, int thread) {
    const auto p = static_cast<size_t>(panel);
    std::memset(weight->data_.get() + p * weight->panel_bytes_, 0, weight->panel_bytes_);
    QuantizationSums panel_sums;
    const int end = std::min(matrix.rows, (panel + 1) * kPanelOutputs);
    for (int r = panel * kPanelOutputs; r < end; ++r) {
      if (as_stored) {
        weight->PackRow(
            r, static_cast<const uint8_t*>(matrix.data) + static_cast<size_t>(r) * cols * element);
        continue;
      }
      float* row_values = values.get() + static_cast<size_t>(thread) * cols;
      uint8_t* row_codes = codes.get() + static_cast<size_t>(thread) * row_bytes;
      float unscaled = 0;
      float* scale = weight->row_scales_ == nullptr ? &unscaled : weight->row_scales_.get() + r;
      WidenRow(matrix, r, row_values);
      panel_sums.Add(QuantizeRow(format, row_values, matrix.cols, row_codes, scale, nullptr));
      weight->PackRow(r, row_codes);
    }
    if (!as_stored) sums[p] = panel_sums;
  });
  QuantizationSums total;
  for (size_t p = 0; !as_stored && p < panels; ++p) total.Add(sums[p]);
  weight->error = total.Error();
  return weight;
}

void PanelWeight::PackRow(int row, const uint8_t* from) {
  const auto count = static_cast<size_t>(cols);
  const auto lane = static_cast<size_t>(row % kPanelOutputs);
  uint8_t* panel = data_.get() + static_cast<size_t>(row / kPanelOutputs) * panel_bytes_;
  switch (dtype_) {
    case DType::kF32:
      return Spread<DType::kF32>(from, count, lane, panel);
    case DType::kF16:
      return Spread<DType::kF16>(from, count, lane, panel);
    case DType::kBF16:
      return Spread<DType::kBF16>(from, count, lane, panel);
    default:
      return Spread<DType::kF8E4M3>(from, count, lane, panel);
  }
}

void PanelWeight::Dequantize(int row, float* out) const {
  const auto lane = static_cast<size_t>(row % kPanelOutputs);
  const size_t element = SizeOf(dtype_);
  const uint8_t* panel = data_.get() + static_cast<size_t>(row / kPanelOutputs) * panel_bytes_;
  for (size_t c = 0; c < static_cast<size_t>(cols); ++c) {
    const float value = WidenElement(dtype_, panel + PlaceOf(dtype_, lane, c) * element);
    out[c] = row_scales_ == nullptr ? value : row_scales_[static_cast<size_t>(row)] * value;
  }
}

}  // namespace octogate::kernels
