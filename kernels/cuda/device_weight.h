// A matrix of weights in the device's memory: row-major floats where F32 is to
// stay F32 and where the matrix is empty, otherwise packed for the tensor cores
// (kernels/cuda/matmul_layout.h).

#ifndef OCTOGATE_KERNELS_CUDA_DEVICE_WEIGHT_H_
#define OCTOGATE_KERNELS_CUDA_DEVICE_WEIGHT_H_

#include <memory>

#include "kernels/backend.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/weight_copies.h"

namespace octogate::kernels::cuda {

class DeviceWeight final : public Weight {
 public:
  // Returns when the weight is there. On the host it takes, for as long, the
  // quantised codes. Null where memory cannot be had, where a matrix that is to be
  // quantised is wider than kMaxQuantizedColumns, and where not even kTileRows rows
  // can be multiplied in `workspace_bytes`.
  static std::unique_ptr<DeviceWeight> Load(WeightCopies& copies, const HostMatrix& matrix,
                                            WeightFormat format, size_t workspace_bytes);

  // `bytes` of what Load makes of such a matrix.
  static size_t BytesOf(DType stored, int rows, int cols, WeightFormat format);

  bool packed() const { return rows_at_once_ > 0; }
  const PackedWeight& packed_weight() const { return packed_; }  // where packed
  // Where not packed: [rows, cols].
  const float* floats() const { return static_cast<const float*>(memory_.get()); }

  // Rows that one product takes in the workspace; 0 where not packed.
  int rows_at_once() const { return rows_at_once_; }

 private:
  DeviceWeight() = default;
  bool LoadFloats(Stream stream, const HostMatrix& matrix);
  bool LoadPacked(WeightCopies& copies, const HostMatrix& matrix);

  DeviceMemory memory_;
  DeviceMemory row_scales_;
  PackedWeight packed_;
  int rows_at_once_ = 0;
};

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_DEVICE_WEIGHT_H_
