// Products with quantised weights, as kernels/quantized_dot.h defines them.

#ifndef OCTOGATE_KERNELS_REFERENCE_QUANTIZED_MATMUL_H_
#define OCTOGATE_KERNELS_REFERENCE_QUANTIZED_MATMUL_H_

#include <memory>

#include "kernels/backend.h"
#include "kernels/quantize.h"

namespace octogate::kernels {

class QuantizedWeight final : public Weight {
 public:
  // Null where memory cannot be had or the matrix is too wide.
  static std::unique_ptr<QuantizedWeight> Make(const HostMatrix& matrix, WeightFormat format);

  const QuantizedMatrix& matrix() const { return matrix_; }

 private:
  explicit QuantizedWeight(QuantizedMatrix matrix);

  QuantizedMatrix matrix_;
};

// Backend::MatMul, one output at a time.
void QuantizedMatMul(const QuantizedMatrix& weight, const float* bias, const float* x, int rows,
                     bool accumulate, float* out, int out_stride);

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_REFERENCE_QUANTIZED_MATMUL_H_
