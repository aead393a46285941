// Weights from a checkpoint's or quantize.h's row-major form to that of
// matmul_layout.h, on the host. Standard library only.

#ifndef OCTOGATE_KERNELS_CUDA_MATMUL_PACK_H_
#define OCTOGATE_KERNELS_CUDA_MATMUL_PACK_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/backend.h"
#include "kernels/cuda/matmul_layout.h"
#include "kernels/quantize.h"

namespace octogate::kernels::cuda {

// The form of a weight that is asked for in `format` and stored in `dtype`.
// Empty for F32 that is to stay so: tensor cores do not take it.
std::optional<PackedFormat> PackedFormatOf(WeightFormat format, DType dtype);

// A row-major matrix whose values a packed weight can hold: as the checkpoint
// has it (16 bits), or quantised. It must outlive what is read through this.
struct RowMajorCodes {
  PackedShape shape;
  const uint8_t* codes = nullptr;  // any alignment
  size_t row_bytes = 0;
  const uint16_t* group_scales = nullptr;

  // matrix.dtype is kF16 or kBF16.
  static RowMajorCodes Of(const HostMatrix& matrix);
  static RowMajorCodes Of(const QuantizedMatrix& matrix);
};

// Writes the bytes of group `group` of matrix.shape (shape.group_bytes() of
// them), fill included. Groups are independent: threads may share the work.
void PackGroup(const RowMajorCodes& matrix, int group, uint8_t* out);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_MATMUL_PACK_H_
