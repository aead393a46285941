#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>
#include <optional>
#include <utility>

#include "kernels/cuda/device_weight.h"
#include "kernels/cuda/matmul_pack.h"
#include "kernels/cuda/weight_copies.h"
#include "kernels/host_memory.h"
#include "kernels/quantize.h"

namespace octogate::kernels::cuda {
namespace {

// Rows from which on more would not make the tensor cores any busier, but the
// workspace larger.
constexpr int kMaxRowsAtOnce = 512;

// Sizes that stay in an int when they are rounded up to whole blocks.
constexpr int kMaxSide = std::numeric_limits<int>::max() - 1024;

// 0 where not even a tile of rows fits.
int RowsAtOnce(const PackedShape& shape, size_t workspace_bytes) {
  for (int rows = kMaxRowsAtOnce; rows >= kTileRows; rows /= 2) {
    // A split input takes more than a rounded one.
    if (MaxMatMulWorkspaceBytes(shape, rows, InputRounding::kSplit) <= workspace_bytes) {
      return rows;
    }
  }
  return 0;
}

}  // namespace

std::unique_ptr<DeviceWeight> DeviceWeight::Load(WeightCopies& copies, const HostMatrix& matrix,
                                                 WeightFormat format, size_t workspace_bytes) {
  if (std::max(matrix.rows, matrix.cols) > kMaxSide) return nullptr;
  if (IsQuantized(format) && matrix.cols > kMaxQuantizedColumns) return nullptr;
  std::unique_ptr<DeviceWeight> weight(new (std::nothrow) DeviceWeight);
  if (weight == nullptr) return nullptr;
  weight->rows = matrix.rows;
  weight->cols = matrix.cols;
  weight->format = format;
  weight->bytes = BytesOf(matrix.dtype, matrix.rows, matrix.cols, format);
  const std::optional<PackedFormat> packed = PackedFormatOf(format, matrix.dtype);
  if (!packed || matrix.rows == 0 || matrix.cols == 0) {
    return weight->LoadFloats(copies.stream(), matrix) ? std::move(weight) : nullptr;
  }
  weight->packed_.shape = {*packed, matrix.rows, matrix.cols};
  weight->rows_at_once_ = RowsAtOnce(weight->packed_.shape, workspace_bytes);
  if (weight->rows_at_once_ == 0) return nullptr;
  return weight->LoadPacked(copies, matrix) ? std::move(weight) : nullptr;
}

size_t DeviceWeight::BytesOf(DType stored, int rows, int cols, WeightFormat format) {
  const std::optional<PackedFormat> packed = PackedFormatOf(format, stored);
  if (!packed || rows == 0 || cols == 0) {
    return static_cast<size_t>(rows) * static_cast<size_t>(cols) * sizeof(float);
  }
  const size_t scales = HasRowScales(*packed) ? static_cast<size_t>(rows) * sizeof(float) : 0;
  return PackedShape{*packed, rows, cols}.bytes() + scales;
}

bool DeviceWeight::LoadFloats(Stream stream, const HostMatrix& matrix) {
  memory_ = AllocateDevice(bytes);
  if (memory_ == nullptr) return false;
  CopyToDevice(stream, matrix.data, bytes, memory_.get());
  Synchronize(stream);
  return true;
}

bool DeviceWeight::LoadPacked(WeightCopies& copies, const HostMatrix& matrix) {
  memory_ = AllocateDevice(packed_.shape.bytes());
  if (memory_ == nullptr) return false;
  packed_.packed = static_cast<const uint8_t*>(memory_.get());

  std::unique_ptr<HostWeight> rounded;
  std::optional<QuantizedMatrix> quantized;
  RowMajorCodes codes;
  if (format == WeightFormat::kStored) {
    codes = RowMajorCodes::Of(matrix);
  } else if (format == WeightFormat::kBf16) {
    rounded = HostWeight::MakeBf16(matrix);
    if (rounded == nullptr) return false;
    error = rounded->error;
    codes = RowMajorCodes::Of(HostMatrix{rounded->data(), rounded->dtype(), rows, cols});
  } else {
    quantized = Quantize(matrix, format, copies.part_runner());
    if (!quantized) return false;
    error = quantized->error;
    codes = RowMajorCodes::Of(*quantized);
  }
  if (HasRowScales(packed_.shape.format)) {
    const size_t scale_bytes = static_cast<size_t>(rows) * sizeof(float);
    row_scales_ = AllocateDevice(scale_bytes);
    if (row_scales_ == nullptr) return false;
    CopyToDevice(copies.stream(), quantized->row_scales.get(), scale_bytes, row_scales_.get());
    packed_.row_scales = static_cast<const float*>(row_scales_.get());
  }
  return copies.Copy(codes, memory_.get());
}

}  // namespace octogate::kernels::cuda
