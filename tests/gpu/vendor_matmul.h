// Products of BF16 matrices by the vendor's library, to set ours beside.

#ifndef OCTOGATE_TESTS_GPU_VENDOR_MATMUL_H_
#define OCTOGATE_TESTS_GPU_VENDOR_MATMUL_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <memory>

namespace octogate::bench {

// cuBLASLt: out [rows, outputs] in F32 = x [rows, cols] * weight [outputs, cols]^T,
// both BF16, summed in F32, with the algorithm that its heuristic ranks first.
class VendorMatMul {
 public:
  // Null where the library refuses the shape.
  static std::unique_ptr<VendorMatMul> Make(int outputs, int cols, int rows);
  ~VendorMatMul();
  VendorMatMul(const VendorMatMul&) = delete;
  VendorMatMul& operator=(const VendorMatMul&) = delete;

  void Enqueue(cudaStream_t stream, const void* weight, const void* x, void* out);

 private:
  struct State;
  explicit VendorMatMul(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_GPU_VENDOR_MATMUL_H_
