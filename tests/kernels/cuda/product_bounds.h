// How far products may be from each other, derived from the orders of operations
// in kernels/cuda/matmul_layout.h and kernels/quantized_dot.h.

#ifndef OCTOGATE_TESTS_KERNELS_CUDA_PRODUCT_BOUNDS_H_
#define OCTOGATE_TESTS_KERNELS_CUDA_PRODUCT_BOUNDS_H_

#include <algorithm>
#include <cmath>

#include "kernels/cuda/matmul_layout.h"
#include "kernels/weight_format.h"

namespace octogate::kernels::cuda::testing {

inline constexpr double kUnit = 0x1p-24;  // half a unit in the last place of 1

// The error of one mma instruction, in kUnit of the magnitudes of its terms. The
// emulation rounds its exact sum once. Tensor cores align the 17 terms to the
// largest and cut off what is below its last place or some bits further on, as
// they do with the sum (Fasi et al. 2021, "Numerical behavior of NVIDIA tensor
// cores"): at most two kUnit for each.
#if defined(OCTOGATE_CUDA_EMULATED)
inline constexpr double kMmaUnits = 1;
#else
inline constexpr double kMmaUnits = 2 * 18;
#endif

// What the device's rounding of x may change in an output, per unit of weight;
// `largest` is the largest magnitude in the row of x.
inline double InputError(PackedFormat format, InputRounding rounding, double x, double largest) {
  const bool split = rounding == InputRounding::kSplit;
  if (format == PackedFormat::kBf16) return std::fabs(x) * (split ? 0x1p-17 : 0x1p-8);
  return std::max(std::fabs(x) * (split ? 0x1p-23 : 0x1p-11), largest * 0x1p-39);
}

struct ProductBound {
  double value;
  double error;
};

// The sum of w[k] * x[k] in double precision, and how far the device's sum may be
// from it: a term is in one instruction for each step of its chain (two with hi and
// lo), in its group's sum, and in what follows. Rounding to nothing (subnormals) is
// far below: weights and inputs of the tests are not that small.
inline ProductBound ExactProduct(PackedFormat format, const float* w, const float* x, int cols,
                                 InputRounding rounding) {
  double largest = 0;
  for (int k = 0; k < cols; ++k) largest = std::max(largest, std::fabs(double{x[k]}));
  double value = 0;
  double magnitude = 0;
  double error = 0;
  for (int k = 0; k < cols; ++k) {
    value += double{w[k]} * x[k];
    magnitude += std::fabs(double{w[k]} * x[k]);
    error += std::fabs(double{w[k]}) * InputError(format, rounding, x[k], largest);
  }
  const double roundings = kMmaUnits * (ChainColumns(cols) / kStepColumns * 2 + 4) + kMaxChains + 4;
  return {value, error + (roundings + 1) * kUnit * (magnitude + error)};
}

// How far the reference backend's product may be from the exact one: with integer
// codes x is rounded to multiples of its group's scale (half of one, and an ulp of
// 127 for the rounded factors); and a sum over lanes or groups.
inline double ReferenceError(WeightFormat format, const float* w, const float* x, int cols) {
  double error = 0;
  for (int first = 0; first < cols; first += kQuantizationGroup) {
    const int last = std::min(cols, first + kQuantizationGroup);
    double largest = 0;
    for (int k = first; k < last; ++k) largest = std::max(largest, std::fabs(double{x[k]}));
    const double half = HasIntegerCodes(format) ? largest / 127 * (0.5 + 0x1p-14) : 0.0;
    for (int k = first; k < last; ++k) {
      error += std::fabs(double{w[k]}) *
               (half + (std::fabs(double{x[k]}) + half) * (cols / 16 + 12) * kUnit);
    }
  }
  return error;
}

}  // namespace octogate::kernels::cuda::testing

#endif  // OCTOGATE_TESTS_KERNELS_CUDA_PRODUCT_BOUNDS_H_
