// Keys and values as 8-bit integers (DType::kI8), the same for every backend: the
// head_dim values of one position and kv head share one scale, so that what is
// stored depends on nothing else.
//
// m being the largest magnitude: scale = m / 127; code = x * (127 / m), rounded
// to nearest with ties to even. Where m is below 2^-100 the scale and the codes
// are zero; where a value is an infinity or a NaN the scale is NaN and the codes
// are zero, so that whoever reads them sees a NaN.

#ifndef OCTOGATE_KERNELS_KV_QUANTIZE_H_
#define OCTOGATE_KERNELS_KV_QUANTIZE_H_

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/host_device.h"

namespace octogate::kernels {

struct KvScale {
  float scale;
  float inverse;  // 0: all codes are zero
};

// Of values of which `largest` is the largest magnitude; a NaN or an infinity
// where one of them is either.
OCTOGATE_HOST_DEVICE inline KvScale KvScaleFor(float largest) {
  if (!(largest <= std::numeric_limits<float>::max())) {
    return {std::numeric_limits<float>::quiet_NaN(), 0};
  }
  if (largest < 0x1p-100f) return {0, 0};
  return {largest / 127, 127 / largest};
}

inline KvScale KvScaleOf(const float* x, int count) {
  float largest = 0;
  for (int i = 0; i < count; ++i) {
    const float magnitude = std::fabs(x[i]);
    if (!(magnitude <= std::numeric_limits<float>::max())) return KvScaleFor(magnitude);
    if (magnitude > largest) largest = magnitude;
  }
  return KvScaleFor(largest);
}

OCTOGATE_HOST_DEVICE inline int8_t KvCode(float x, const KvScale& scale) {
  if (scale.inverse == 0) return 0;
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: rounds to integer
  return static_cast<int8_t>((x * scale.inverse + kRounder) - kRounder);
}

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_KV_QUANTIZE_H_
