// Products of BF16 matrices by the vendor's library, to set ours beside.

#ifndef OCTOGATE_TESTS_GPU_VENDOR_MATMUL_H_
#define OCTOGATE_TESTS_GPU_VENDOR_MATMUL_H_

#include <cuda_runtime.h>

#include <memory>
#include <span>

namespace octogate::bench {

// cuBLASLt: out [rows, outputs] in F32 = x [rows, cols] * weight [outputs, cols]^T,
// both BF16, summed in F32, with the fastest of the algorithms that its heuristic ranks
// first.
class VendorMatMul {
 public:
  // Times the algorithms with each of `weights` in turn, `x` and `out`, whose contents
  // go. Null where the library refuses the shape.
  static std::unique_ptr<VendorMatMul> Make(cudaStream_t stream, int outputs, int cols, int rows,
                                            std::span<const void* const> weights, const void* x,
                                            void* out);
  ~VendorMatMul();
  VendorMatMul(const VendorMatMul&) = delete;
  VendorMatMul& operator=(const VendorMatMul&) = delete;

  void Enqueue(cudaStream_t stream, const void* weight, const void* x, void* out);

 private:
  struct State;
  explicit VendorMatMul(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Operations that the device does each second in products of large BF16 matrices, by
// that measure; 0 where the library refuses.
double VendorOperationsPerSecond(cudaStream_t stream);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_GPU_VENDOR_MATMUL_H_
