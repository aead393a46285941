// How a backend keeps a weight in its memory.

#ifndef OCTOGATE_KERNELS_WEIGHT_FORMAT_H_
#define OCTOGATE_KERNELS_WEIGHT_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/dtype.h"

namespace octogate::kernels {

enum class WeightFormat : uint8_t {
  kStored,     // as the checkpoint has it
  kBf16,       // rounded to BF16
  kInt8,       // codes -127..127, one scale (F32) for each row
  kInt8Group,  // codes -127..127, one scale (F16) for each group of columns of a row
  kInt4Group,  // codes -8..7, one scale (F16) for each group of columns of a row
  kFp8,        // E4M3 (kernels/float8.h), one scale (F32) for each row
};

// Adjacent columns that share a scale; the last group of a row may have fewer.
inline constexpr int kQuantizationGroup = 32;

// A wider matrix is not quantised: LoadWeight returns null.
inline constexpr int kMaxQuantizedColumns = 1 << 20;

constexpr bool IsQuantized(WeightFormat format) {
  return format != WeightFormat::kStored && format != WeightFormat::kBf16;
}

// The weights' codes are integers and what they multiply is rounded to 8 bits
// (kernels/quantized_dot.h).
constexpr bool HasIntegerCodes(WeightFormat format) {
  return format == WeightFormat::kInt8 || format == WeightFormat::kInt8Group ||
         format == WeightFormat::kInt4Group;
}

constexpr bool HasGroupScales(WeightFormat format) {
  return format == WeightFormat::kInt8Group || format == WeightFormat::kInt4Group;
}

constexpr int QuantizationGroups(int cols) {
  return cols / kQuantizationGroup + (cols % kQuantizationGroup != 0 ? 1 : 0);
}

// The name that flags and logs use.
constexpr const char* Name(WeightFormat format) {
  switch (format) {
    case WeightFormat::kStored:
      return "stored";
    case WeightFormat::kBf16:
      return "bf16";
    case WeightFormat::kInt8:
      return "int8";
    case WeightFormat::kInt8Group:
      return "int8-group";
    case WeightFormat::kInt4Group:
      return "int4-group";
    case WeightFormat::kFp8:
      return "fp8";
  }
  return "?";
}

inline constexpr WeightFormat kWeightFormats[] = {
    WeightFormat::kStored,    WeightFormat::kBf16,      WeightFormat::kInt8,
    WeightFormat::kInt8Group, WeightFormat::kInt4Group, WeightFormat::kFp8,
};

constexpr std::optional<WeightFormat> WeightFormatFromName(std::string_view name) {
  for (const WeightFormat format : kWeightFormats) {
    if (name == Name(format)) return format;
  }
  return std::nullopt;
}

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_WEIGHT_FORMAT_H_
