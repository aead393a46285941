#include "kernels/quantize.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <span>

#include "kernels/float16.h"
#include "kernels/float8.h"

namespace octogate::kernels {
namespace {

constexpr float kSmallestMagnitude = 0x1p-100f;
constexpr float kLargestFloat16 = 65504;
constexpr int kPartRows = 32;

// Rounds to an integer, ties to even; |x| < 2^22.
float RoundToInteger(float x) {
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23
  return (x + kRounder) - kRounder;
}

struct Extreme {
  float magnitude = 0;  // the largest among the finite values
  float value = 0;      // the first that has it
};

Extreme FindExtreme(std::span<const float> values) {
  Extreme extreme;
  for (const float value : values) {
    const float magnitude = std::fabs(value);
    if (magnitude > extreme.magnitude && std::isfinite(magnitude)) extreme = {magnitude, value};
  }
  return extreme;
}

// The integer code of a value; `scale` is not zero.
int RoundedCode(float value, float scale, int lowest, int highest) {
  if (std::isnan(value)) return 0;
  const float bounded =
      std::clamp(value / scale, static_cast<float>(lowest), static_cast<float>(highest));
  return static_cast<int>(RoundToInteger(bounded));
}

void EncodeInt8(std::span<const float> values, float scale, uint8_t* codes) {
  for (size_t i = 0; i < values.size(); ++i) {
    codes[i] = static_cast<uint8_t>(scale == 0 ? 0 : RoundedCode(values[i], scale, -127, 127));
  }
}

void EncodeInt4(std::span<const float> values, float scale, uint8_t* codes) {
  for (size_t i = 0; i < values.size(); ++i) {
    const int code = scale == 0 ? 0 : RoundedCode(values[i], scale, -8, 7);
    const unsigned shift = i % 2 == 0 ? 0 : 4;
    const unsigned others = shift == 0 ? 0xF0u : 0x0Fu;
    codes[i / 2] =
        static_cast<uint8_t>((codes[i / 2] & others) | (static_cast<unsigned>(code + 8) << shift));
  }
}

void EncodeFp8(std::span<const float> values, float scale, uint8_t* codes) {
  for (size_t i = 0; i < values.size(); ++i) {
    codes[i] = scale == 0 || std::isnan(values[i]) ? uint8_t{0} : FloatToFloat8(values[i] / scale);
  }
}

uint16_t GroupScale(float scale) {
  return FloatToFloat16(std::clamp(scale, -kLargestFloat16, kLargestFloat16));
}

// The value of column c of a row of codes.
float Decode(WeightFormat format, const uint8_t* codes, float row_scale,
             const uint16_t* group_scales, int c) {
  switch (format) {
    case WeightFormat::kBf16: {
      uint16_t bits;
      std::memcpy(&bits, codes + 2 * static_cast<size_t>(c), 2);
      return BFloat16ToFloat(bits);
    }
    case WeightFormat::kInt8:
      return row_scale * static_cast<float>(static_cast<int8_t>(codes[c]));
    case WeightFormat::kInt8Group:
      return Float16ToFloat(group_scales[c / kQuantizationGroup]) *
             static_cast<float>(static_cast<int8_t>(codes[c]));
    case WeightFormat::kInt4Group: {
      const int code = ((codes[c / 2] >> (c % 2 == 0 ? 0 : 4)) & 0xF) - 8;
      return Float16ToFloat(group_scales[c / kQuantizationGroup]) * static_cast<float>(code);
    }
    case WeightFormat::kFp8:
      return row_scale * Float8ToFloat(codes[c]);
    case WeightFormat::kStored:
      break;
  }
  return 0;
}

}  // namespace

void QuantizationSums::Add(const QuantizationSums& other) {
  squared_error += other.squared_error;
  squared_weight += other.squared_weight;
  max_absolute = std::max(max_absolute, other.max_absolute);
}

QuantizationError QuantizationSums::Error() const {
  return {.relative_rms = squared_weight > 0 ? std::sqrt(squared_error / squared_weight) : 0,
          .max_absolute = max_absolute};
}

size_t QuantizedRowBytes(WeightFormat format, int cols) {
  const size_t padded = static_cast<size_t>(QuantizationGroups(cols)) * kQuantizationGroup;
  if (format == WeightFormat::kBf16) return 2 * padded;
  return format == WeightFormat::kInt4Group ? padded / 2 : padded;
}

size_t LoadedWeightBytes(DType stored, int rows, int cols, WeightFormat format) {
  constexpr size_t kRowsTogether = 16;  // as kernels/cpu interleaves them
  size_t row_bytes = static_cast<size_t>(QuantizationGroups(cols)) * kQuantizationGroup;
  if (IsQuantized(format)) {
    row_bytes =
        QuantizedRowBytes(format, cols) +
        (HasGroupScales(format) ? static_cast<size_t>(QuantizationGroups(cols)) * sizeof(uint16_t)
                                : sizeof(float));
  } else {
    row_bytes *= SizeOf(format == WeightFormat::kBf16 ? DType::kBF16 : stored);
  }
  return (static_cast<size_t>(rows) + kRowsTogether - 1) / kRowsTogether * kRowsTogether *
         row_bytes;
}

void WidenRow(const HostMatrix& matrix, int row, float* out) {
  const size_t row_bytes = static_cast<size_t>(matrix.cols) * SizeOf(matrix.dtype);
  const uint8_t* from =
      static_cast<const uint8_t*>(matrix.data) + static_cast<size_t>(row) * row_bytes;
  if (matrix.dtype == DType::kF32) {
    std::memcpy(out, from, row_bytes);
    return;
  }
  for (int c = 0; c < matrix.cols; ++c) {
    uint16_t bits;
    std::memcpy(&bits, from + 2 * static_cast<size_t>(c), 2);
    out[c] = matrix.dtype == DType::kF16 ? Float16ToFloat(bits) : BFloat16ToFloat(bits);
  }
}

QuantizationSums QuantizeRow(WeightFormat format, const float* values, int cols, uint8_t* codes,
                             float* row_scale, uint16_t* group_scales) {
  std::memset(codes, format == WeightFormat::kInt4Group ? 0x88 : 0,
              QuantizedRowBytes(format, cols));
  const std::span<const float> row(values, static_cast<size_t>(cols));
  float scale = 0;
  switch (format) {
    case WeightFormat::kStored:
      assert(false);
      break;
    case WeightFormat::kBf16:
      for (size_t c = 0; c < row.size(); ++c) {
        const uint16_t bits = FloatToBFloat16(row[c]);
        std::memcpy(codes + 2 * c, &bits, 2);
      }
      break;
    case WeightFormat::kInt8:
    case WeightFormat::kFp8: {
      const float magnitude = FindExtreme(row).magnitude;
      const float largest_code = format == WeightFormat::kInt8 ? 127 : kFloat8Max;
      scale = magnitude < kSmallestMagnitude ? 0 : magnitude / largest_code;
      *row_scale = scale;
      if (format == WeightFormat::kInt8) {
        EncodeInt8(row, scale, codes);
      } else {
        EncodeFp8(row, scale, codes);
      }
      break;
    }
    case WeightFormat::kInt8Group:
    case WeightFormat::kInt4Group:
      for (size_t c = 0; c < row.size(); c += kQuantizationGroup) {
        const auto group = row.subspan(c, std::min<size_t>(kQuantizationGroup, row.size() - c));
        const Extreme extreme = FindExtreme(group);
        const bool wide = format == WeightFormat::kInt8Group;
        const uint16_t narrow =
            extreme.magnitude < kSmallestMagnitude
                ? uint16_t{0}
                : GroupScale(wide ? extreme.magnitude / 127 : extreme.value / -8);
        group_scales[c / kQuantizationGroup] = narrow;
        if (wide) {
          EncodeInt8(group, Float16ToFloat(narrow), codes + c);
        } else {
          EncodeInt4(group, Float16ToFloat(narrow), codes + c / 2);
        }
      }
      break;
  }
  QuantizationSums sums;
  for (int c = 0; c < cols; ++c) {
    if (!std::isfinite(values[c])) continue;
    const double weight = values[c];
    const double error = weight - Decode(format, codes, scale, group_scales, c);
    if (!std::isfinite(error)) continue;  // rounded up to infinity, which only kBf16 does
    sums.squared_error += error * error;
    sums.squared_weight += weight * weight;
    sums.max_absolute = std::max(sums.max_absolute, std::fabs(error));
  }
  return sums;
}

std::optional<QuantizedMatrix> Quantize(const HostMatrix& matrix, WeightFormat format,
                                        const PartRunner& run) {
  assert(format != WeightFormat::kStored && matrix.cols <= kMaxQuantizedColumns);
  const auto rows = static_cast<size_t>(matrix.rows);
  const auto groups = static_cast<size_t>(QuantizationGroups(matrix.cols));
  const int parts = (matrix.rows + kPartRows - 1) / kPartRows;
  QuantizedMatrix result{.format = format, .rows = matrix.rows, .cols = matrix.cols};
  result.row_bytes = QuantizedRowBytes(format, matrix.cols);
  result.codes = AllocateHost<uint8_t>(rows * result.row_bytes);
  result.row_scales = AllocateHost<float>(rows);
  if (HasGroupScales(format)) result.group_scales = AllocateHost<uint16_t>(rows * groups);
  const HostArray<QuantizationSums> sums = AllocateHost<QuantizationSums>(rows);
  if (result.codes == nullptr || result.row_scales == nullptr || sums == nullptr ||
      (HasGroupScales(format) && result.group_scales == nullptr)) {
    return std::nullopt;
  }
  std::atomic<bool> has_memory = true;
  const auto quantize = [&](int part) {
    const HostArray<float> values = AllocateHost<float>(static_cast<size_t>(matrix.cols));
    if (values == nullptr) {
      has_memory = false;
      return;
    }
    const size_t first = static_cast<size_t>(part) * kPartRows;
    for (size_t r = first; r < std::min(rows, first + kPartRows); ++r) {
      WidenRow(matrix, static_cast<int>(r), values.get());
      sums[r] =
          QuantizeRow(format, values.get(), matrix.cols, result.codes.get() + r * result.row_bytes,
                      result.row_scales.get() + r,
                      HasGroupScales(format) ? result.group_scales.get() + r * groups : nullptr);
    }
  };
  if (run) {
    run(parts, quantize);
  } else {
    for (int part = 0; part < parts; ++part) quantize(part);
  }
  if (!has_memory) return std::nullopt;
  QuantizationSums all;
  for (size_t r = 0; r < rows; ++r) all.Add(sums[r]);
  result.error = all.Error();
  return result;
}

void Dequantize(const QuantizedMatrix& matrix, int row, float* out) {
  const auto r = static_cast<size_t>(row);
  const uint8_t* codes = matrix.codes.get() + r * matrix.row_bytes;
  const uint16_t* scales =
      HasGroupScales(matrix.format)
          ? matrix.group_scales.get() + r * static_cast<size_t>(QuantizationGroups(matrix.cols))
          : nullptr;
  const bool scaled_rows =
      matrix.format == WeightFormat::kInt8 || matrix.format == WeightFormat::kFp8;
  const float row_scale = scaled_rows ? matrix.row_scales[r] : 0;
  for (int c = 0; c < matrix.cols; ++c) out[c] = Decode(matrix.format, codes, row_scale, scales, c);
}

int CodeAt(const QuantizedMatrix& matrix, int row, int col) {
  assert(HasIntegerCodes(matrix.format));
  const uint8_t* codes = matrix.codes.get() + static_cast<size_t>(row) * matrix.row_bytes;
  if (matrix.format != WeightFormat::kInt4Group) return static_cast<int8_t>(codes[col]);
  return ((codes[col / 2] >> (col % 2 == 0 ? 0 : 4)) & 0xF) - 8;
}

}  // namespace octogate::kernels
