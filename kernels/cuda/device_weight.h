// A matrix of weights in the device's memory.

#ifndef OCTOGATE_KERNELS_CUDA_DEVICE_WEIGHT_H_
#define OCTOGATE_KERNELS_CUDA_DEVICE_WEIGHT_H_

#include <utility>

#include "kernels/backend.h"
#include "kernels/cuda/memory.h"

namespace octogate::kernels::cuda {

// Row-major and dense, in the storage type `dtype`.
class DeviceWeight final : public Weight {
 public:
  DeviceWeight(const HostMatrix& matrix, DeviceMemory memory)
      : memory_(std::move(memory)), dtype_(matrix.dtype) {
    rows = matrix.rows;
    cols = matrix.cols;
  }
  DType dtype() const { return dtype_; }
  const void* data() const { return memory_.get(); }

 private:
  DeviceMemory memory_;
  DType dtype_;
};

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_DEVICE_WEIGHT_H_
