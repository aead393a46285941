// Products with tensor cores: the order of their operations, and how weights and
// inputs lie in the device's memory.
//
// Numerics. y[r, n] = sum over k of x[r, k] * w[n, k], where w has 16 bits (BF16,
// F16) or is a code that 16 bits hold exactly (F16 for all quantised formats).
// Weights are never rounded. What a row of x becomes is an option:
//   InputRounding::kSplit    the default: hi + lo, two numbers of the weight's type,
//                            hi is x rounded, lo is what is missing, rounded
//   InputRounding::kRounded  hi alone: half the work of the tensor cores
// In BF16 the rest is at most 2^-17 |x| (split) or 2^-8 |x| (rounded), and x of
// magnitude 2^128 (1 - 2^-9) or more counts as infinite. In F16 the row is first
// multiplied by a power of two that brings its largest finite magnitude m into
// [2^14, 2^15), or by 2^100 where that is less; the rest is at most
// max(2^-23 |x|, 2^-39 m) or max(2^-11 |x|, 2^-39 m), for m of at least 2^-86.
// Unlike the CPU's products with quantised weights (kernels/quantized_dot.h)
// none of these rounds x to 8 bits.
//
// Order. Columns are filled up with zeros and cut into at most kMaxChains chains
// of ChainColumns(cols). A chain starts from +0 and takes steps of 16 columns in
// ascending order; a step adds hi * w, then lo * w, one mma instruction each.
// Where groups of 32 columns have scales, the two steps of a group start from
// +0, and chain = fma(group's sum, scale, chain). The chains' sums are added in
// ascending order. Then y = sum * (power of two) * (scale of the row of w, if
// any), and FinishDot of kernels/reduction_order.h.
// This depends on `cols` alone: an output has the same bits whatever the number
// of rows and however the work is cut into blocks of threads. It is also why
// cuBLAS is not used for many rows: its order depends on the shape. How an mma
// instruction rounds its sum of 17 terms is the hardware's affair.
//
// Packed weights. Outputs are in tiles of 16 and groups of kGroupOutputs, columns
// in stages of StageColumns(format). Memory is [group][stage][unit], a unit
// holding what one group multiplies in one stage:
//   [tile 0..3][vector][lane 0..31][16 bytes], then the scales of the groups of
//   32 columns, if the format has them: [tile][0..7][column group][upper, lower].
// A vector is what one lane holds of the left operand of mma.m16n8k16 in one step
// (16 bits), two steps (8 bits) or four (4 bits). Lane l holds outputs l / 4
// (upper) and l / 4 + 8 (lower) of the tile, and of the step's columns the four
// from 4 (l % 4), the first two as columns 2 (l % 4) + {0, 1} of the operand and
// the others as + 8: inputs lie likewise, so the order within a step is free, and
// a lane's four columns are adjacent in memory.
// In a step's eight values, e = 4 * (column in four / 2) + 2 * lower + column % 2:
//   16 bits   the eight in order of e
//   8 bits    byte 4 (e / 4) + 2 (e % 2) + (e / 2) % 2 of eight: so that a mask
//             leaves two adjacent values in the two halves of a word
//   4 bits    nibble 4 (e % 2) + e / 2 of the step's word, likewise
// Integer codes are stored as code + 128 and code + 8.

#ifndef OCTOGATE_KERNELS_CUDA_MATMUL_LAYOUT_H_
#define OCTOGATE_KERNELS_CUDA_MATMUL_LAYOUT_H_

#include <cstddef>
#include <cstdint>

#include "kernels/host_device.h"
#include "kernels/weight_format.h"

namespace octogate::kernels::cuda {

enum class InputRounding : uint8_t { kSplit, kRounded };

enum class PackedFormat : uint8_t { kBf16, kF16, kInt8, kInt8Group, kInt4Group, kFp8 };

inline constexpr int kStepColumns = 16;  // of one mma instruction
inline constexpr int kTileOutputs = 16;  // likewise
inline constexpr int kTileRows = 8;      // likewise
inline constexpr int kGroupOutputs = 64;
inline constexpr int kGroupTiles = kGroupOutputs / kTileOutputs;
inline constexpr int kMaxChains = 8;
inline constexpr int kColumnMultiple = 64;  // of a chain; whole stages of every format
inline constexpr int kVectorBytes = 16;
inline constexpr int kVectorTileBytes = 32 * kVectorBytes;

OCTOGATE_HOST_DEVICE constexpr int RoundUp(int value, int multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

OCTOGATE_HOST_DEVICE constexpr int PaddedColumns(int cols) {
  return RoundUp(cols, kColumnMultiple);
}
OCTOGATE_HOST_DEVICE constexpr int ChainColumns(int cols) {
  return RoundUp((cols + kMaxChains - 1) / kMaxChains, kColumnMultiple);
}
OCTOGATE_HOST_DEVICE constexpr int Chains(int cols) {
  return (cols + ChainColumns(cols) - 1) / ChainColumns(cols);
}

OCTOGATE_HOST_DEVICE constexpr int BitsOf(PackedFormat format) {
  return format == PackedFormat::kBf16 || format == PackedFormat::kF16 ? 16
         : format == PackedFormat::kInt4Group                          ? 4
                                                                       : 8;
}
OCTOGATE_HOST_DEVICE constexpr bool HasGroupScales(PackedFormat format) {
  return format == PackedFormat::kInt8Group || format == PackedFormat::kInt4Group;
}
OCTOGATE_HOST_DEVICE constexpr bool HasRowScales(PackedFormat format) {
  return format == PackedFormat::kInt8 || format == PackedFormat::kFp8;
}

OCTOGATE_HOST_DEVICE constexpr int StageColumns(PackedFormat format) {
  return BitsOf(format) == 16 ? 32 : 64;
}
// Steps that one vector holds, and vectors of a tile in a stage.
OCTOGATE_HOST_DEVICE constexpr int VectorSteps(PackedFormat format) { return 16 / BitsOf(format); }
OCTOGATE_HOST_DEVICE constexpr int StageVectors(PackedFormat format) {
  return StageColumns(format) / (kStepColumns * VectorSteps(format));
}
OCTOGATE_HOST_DEVICE constexpr int StageScaleGroups(PackedFormat format) {
  return HasGroupScales(format) ? StageColumns(format) / kQuantizationGroup : 0;
}
// Bytes of one tile's scales in a stage, and of a unit.
OCTOGATE_HOST_DEVICE constexpr int TileScaleBytes(PackedFormat format) {
  return kTileOutputs * StageScaleGroups(format) * 2;
}
OCTOGATE_HOST_DEVICE constexpr int UnitBytes(PackedFormat format) {
  return kGroupTiles * (StageVectors(format) * kVectorTileBytes + TileScaleBytes(format));
}

struct PackedShape {
  PackedFormat format = PackedFormat::kBf16;
  int rows = 0;  // output features
  int cols = 0;  // input features

  OCTOGATE_HOST_DEVICE constexpr int groups() const {
    return (rows + kGroupOutputs - 1) / kGroupOutputs;
  }
  OCTOGATE_HOST_DEVICE constexpr int stages() const {
    return PaddedColumns(cols) / StageColumns(format);
  }
  OCTOGATE_HOST_DEVICE constexpr size_t group_bytes() const {
    return static_cast<size_t>(stages()) * static_cast<size_t>(UnitBytes(format));
  }
  OCTOGATE_HOST_DEVICE constexpr size_t bytes() const {
    return static_cast<size_t>(groups()) * group_bytes();
  }
  bool operator==(const PackedShape&) const = default;
};

// Where w[n, k] lies: the byte in the packed weight, and for 4 bits the shift in
// it.
struct CodePosition {
  size_t byte;
  int shift;
};
OCTOGATE_HOST_DEVICE constexpr CodePosition PositionOfCode(const PackedShape& shape, int n, int k) {
  const PackedFormat format = shape.format;
  const int tile = n % kGroupOutputs / kTileOutputs;
  const int lower = n % kTileOutputs / 8;
  const int in_stage = k % StageColumns(format);
  const int step = in_stage / kStepColumns;
  const int lane = n % 8 * 4 + k % kStepColumns / 4;
  const int e = k % 4 / 2 * 4 + lower * 2 + k % 2;
  const int vector = step / VectorSteps(format);
  const int step_in_vector = step % VectorSteps(format);
  size_t byte =
      static_cast<size_t>(n / kGroupOutputs) * shape.group_bytes() +
      static_cast<size_t>(k / StageColumns(format)) * static_cast<size_t>(UnitBytes(format)) +
      static_cast<size_t>((tile * StageVectors(format) + vector) * kVectorTileBytes +
                          lane * kVectorBytes);
  if (BitsOf(format) == 16) return {byte + static_cast<size_t>(2 * e), 0};
  if (BitsOf(format) == 8) {
    return {byte + static_cast<size_t>(8 * step_in_vector + e / 4 * 4 + e % 2 * 2 + e / 2 % 2), 0};
  }
  const int nibble = 4 * (e % 2) + e / 2;
  return {byte + static_cast<size_t>(4 * step_in_vector + nibble / 2), nibble % 2 * 4};
}

// Where the F16 scale of w[n, k]'s group lies.
OCTOGATE_HOST_DEVICE constexpr size_t PositionOfScale(const PackedShape& shape, int n, int k) {
  const PackedFormat format = shape.format;
  const int tile = n % kGroupOutputs / kTileOutputs;
  const int lower = n % kTileOutputs / 8;
  const int group = k % StageColumns(format) / kQuantizationGroup;
  return static_cast<size_t>(n / kGroupOutputs) * shape.group_bytes() +
         static_cast<size_t>(k / StageColumns(format)) * static_cast<size_t>(UnitBytes(format)) +
         static_cast<size_t>(kGroupTiles * StageVectors(format) * kVectorTileBytes +
                             tile * TileScaleBytes(format) +
                             ((n % 8 * StageScaleGroups(format) + group) * 2 + lower) * 2);
}

// Packed inputs: [row / 8][step][lane][registers] with lane 4 (row % 8) + (column
// in step) / 4; registers are {hi, hi, lo, lo} of two columns each, or {hi, hi}.
OCTOGATE_HOST_DEVICE constexpr int InputLaneBytes(InputRounding rounding) {
  return rounding == InputRounding::kSplit ? 16 : 8;
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_MATMUL_LAYOUT_H_
