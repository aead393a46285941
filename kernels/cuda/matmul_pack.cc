#include "kernels/cuda/matmul_pack.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace octogate::kernels::cuda {
namespace {

// Copies the four columns from k of row n; `out` is where the first one lies.
// Columns behind the last are left as they are.
template <PackedFormat kFormat>
void PackFour(const uint8_t* row, int k, int cols, const CodePosition& position, uint8_t* out) {
  const int count = std::min(4, cols - k);
  if constexpr (BitsOf(kFormat) == 16) {
    for (int c = 0; c < count; ++c) {
      const auto pair = static_cast<size_t>(c / 2);
      const auto half = static_cast<size_t>(c % 2);
      std::memcpy(out + position.byte + 8 * pair + 2 * half, row + 2 * static_cast<size_t>(k + c),
                  2);
    }
  } else if constexpr (BitsOf(kFormat) == 8) {
    constexpr uint8_t kBias = kFormat == PackedFormat::kFp8 ? 0 : 128;
    for (int c = 0; c < count; ++c) {
      out[position.byte + static_cast<size_t>(2 * c)] = static_cast<uint8_t>(row[k + c] + kBias);
    }
  } else {
    constexpr int kByte[4] = {0, 2, 1, 3};
    for (int c = 0; c < count; ++c) {
      const int code = row[(k + c) / 2] >> ((k + c) % 2 * 4) & 0xF;
      uint8_t& to = out[position.byte + static_cast<size_t>(kByte[c])];
      to = static_cast<uint8_t>((to & ~(0xF << position.shift)) | code << position.shift);
    }
  }
}

template <PackedFormat kFormat>
void PackGroupAs(const RowMajorCodes& matrix, int group, uint8_t* out) {
  PackedShape shape = matrix.shape;
  shape.format = kFormat;  // a constant to the compiler
  constexpr uint8_t kFill = kFormat == PackedFormat::kInt4Group ? 0x88
                            : kFormat == PackedFormat::kInt8 || kFormat == PackedFormat::kInt8Group
                                ? 128
                                : 0;
  for (int stage = 0; stage < shape.stages(); ++stage) {
    uint8_t* unit = out + static_cast<size_t>(stage) * UnitBytes(kFormat);
    constexpr int kScaleBytes = kGroupTiles * TileScaleBytes(kFormat);
    std::memset(unit, kFill, UnitBytes(kFormat) - kScaleBytes);
    std::memset(unit + UnitBytes(kFormat) - kScaleBytes, 0, kScaleBytes);
  }
  const int first = group * kGroupOutputs;
  const int rows = std::min(kGroupOutputs, shape.rows - first);
  const int scale_groups = QuantizationGroups(shape.cols);
  for (int n = 0; n < rows; ++n) {
    const uint8_t* row = matrix.codes + static_cast<size_t>(first + n) * matrix.row_bytes;
    for (int k = 0; k < shape.cols; k += 4) {
      PackFour<kFormat>(row, k, shape.cols, PositionOfCode(shape, n, k), out);
    }
    if constexpr (HasGroupScales(kFormat)) {
      const uint16_t* scales =
          matrix.group_scales + static_cast<size_t>(first + n) * static_cast<size_t>(scale_groups);
      for (int g = 0; g < scale_groups; ++g) {
        std::memcpy(out + PositionOfScale(shape, n, g * kQuantizationGroup), scales + g, 2);
      }
    }
  }
}

}  // namespace

std::optional<PackedFormat> PackedFormatOf(WeightFormat format, DType dtype) {
  switch (format) {
    case WeightFormat::kStored:
      if (dtype == DType::kF32) return std::nullopt;
      return dtype == DType::kF16 ? PackedFormat::kF16 : PackedFormat::kBf16;
    case WeightFormat::kBf16:
      return PackedFormat::kBf16;
    case WeightFormat::kInt8:
      return PackedFormat::kInt8;
    case WeightFormat::kInt8Group:
      return PackedFormat::kInt8Group;
    case WeightFormat::kInt4Group:
      return PackedFormat::kInt4Group;
    case WeightFormat::kFp8:
      return PackedFormat::kFp8;
  }
  return std::nullopt;
}

RowMajorCodes RowMajorCodes::Of(const HostMatrix& matrix) {
  assert(matrix.dtype != DType::kF32);
  return {{*PackedFormatOf(WeightFormat::kStored, matrix.dtype), matrix.rows, matrix.cols},
          static_cast<const uint8_t*>(matrix.data),
          2 * static_cast<size_t>(matrix.cols),
          nullptr};
}

RowMajorCodes RowMajorCodes::Of(const QuantizedMatrix& matrix) {
  return {{*PackedFormatOf(matrix.format, DType::kBF16), matrix.rows, matrix.cols},
          matrix.codes.get(),
          matrix.row_bytes,
          matrix.group_scales.get()};
}

void PackGroup(const RowMajorCodes& matrix, int group, uint8_t* out) {
  assert(group >= 0 && group < matrix.shape.groups());
  switch (matrix.shape.format) {
    case PackedFormat::kBf16:
      return PackGroupAs<PackedFormat::kBf16>(matrix, group, out);
    case PackedFormat::kF16:
      return PackGroupAs<PackedFormat::kF16>(matrix, group, out);
    case PackedFormat::kInt8:
      return PackGroupAs<PackedFormat::kInt8>(matrix, group, out);
    case PackedFormat::kInt8Group:
      return PackGroupAs<PackedFormat::kInt8Group>(matrix, group, out);
    case PackedFormat::kInt4Group:
      return PackGroupAs<PackedFormat::kInt4Group>(matrix, group, out);
    case PackedFormat::kFp8:
      return PackGroupAs<PackedFormat::kFp8>(matrix, group, out);
  }
}

}  // namespace octogate::kernels::cuda
