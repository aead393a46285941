#include "kernels/reference/quantized_matmul.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/float16.h"
#include "kernels/float8.h"
#include "kernels/quantized_dot.h"
#include "kernels/reduction_order.h"

namespace octogate::kernels {
namespace {

struct QuantizedInput {
  std::vector<int8_t> codes;
  std::vector<float> scales;
};

QuantizedInput QuantizeInput(const float* x, int cols) {
  const int groups = QuantizationGroups(cols);
  QuantizedInput input;
  input.codes.resize(static_cast<size_t>(groups) * kQuantizationGroup);
  for (int g = 0; g < groups; ++g) {
    const int first = g * kQuantizationGroup;
    const int count = std::min(kQuantizationGroup, cols - first);
    input.scales.push_back(QuantizeGroup(x + first, count, input.codes.data() + first));
  }
  return input;
}

float IntegerDot(const QuantizedMatrix& weight, int n, const QuantizedInput& input) {
  const int groups = QuantizationGroups(weight.cols);
  float sum = 0;
  for (int g = 0; g < groups; ++g) {
    const int first = g * kQuantizationGroup;
    const int last = std::min(weight.cols, first + kQuantizationGroup);
    int dot = 0;
    for (int c = first; c < last; ++c) {
      dot += CodeAt(weight, n, c) * input.codes[static_cast<size_t>(c)];
    }
    float factor = input.scales[static_cast<size_t>(g)];
    if (HasGroupScales(weight.format)) {
      factor *=
          Float16ToFloat(weight.group_scales[static_cast<size_t>(n) * static_cast<size_t>(groups) +
                                             static_cast<size_t>(g)]);
    }
    sum = std::fma(static_cast<float>(dot), factor, sum);
  }
  return HasGroupScales(weight.format) ? sum : sum * weight.row_scales[static_cast<size_t>(n)];
}

float Fp8Dot(const QuantizedMatrix& weight, int n, const float* x) {
  const uint8_t* codes = weight.codes.get() + static_cast<size_t>(n) * weight.row_bytes;
  const float dot = Dot([&](int k) { return x[k]; },
                        [&](int k) { return Float8ToFloat(codes[k]) / kFloat8Shift; }, weight.cols);
  return dot * (weight.row_scales[static_cast<size_t>(n)] * kFloat8Shift);
}

}  // namespace

QuantizedWeight::QuantizedWeight(QuantizedMatrix matrix) : matrix_(std::move(matrix)) {
  rows = matrix_.rows;
  cols = matrix_.cols;
  format = matrix_.format;
  error = matrix_.error;
  const auto scales = HasGroupScales(format)
                          ? static_cast<size_t>(QuantizationGroups(cols)) * sizeof(uint16_t)
                          : sizeof(float);
  bytes = static_cast<size_t>(rows) * (matrix_.row_bytes + scales);
}

std::unique_ptr<QuantizedWeight> QuantizedWeight::Make(const HostMatrix& matrix,
                                                       WeightFormat format) {
  if (matrix.cols > kMaxQuantizedColumns) return nullptr;
  std::optional<QuantizedMatrix> quantized = Quantize(matrix, format);
  if (!quantized) return nullptr;
  return std::unique_ptr<QuantizedWeight>(new (std::nothrow)
                                              QuantizedWeight(*std::move(quantized)));
}

void QuantizedMatMul(const QuantizedMatrix& weight, const float* bias, const float* x, int rows,
                     bool accumulate, float* out, int out_stride) {
  for (int r = 0; r < rows; ++r) {
    const float* row = x + static_cast<size_t>(r) * static_cast<size_t>(weight.cols);
    const QuantizedInput input =
        weight.format == WeightFormat::kFp8 ? QuantizedInput{} : QuantizeInput(row, weight.cols);
    for (int n = 0; n < weight.rows; ++n) {
      const float dot = weight.format == WeightFormat::kFp8 ? Fp8Dot(weight, n, row)
                                                            : IntegerDot(weight, n, input);
      float& y =
          out[static_cast<size_t>(r) * static_cast<size_t>(out_stride) + static_cast<size_t>(n)];
      y = FinishDot(dot, bias, n, accumulate, y);
    }
  }
}

}  // namespace octogate::kernels
