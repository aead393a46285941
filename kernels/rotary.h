// Sine and cosine for rotary embeddings, the same bits on every machine.
//
// The angle is the float product position * inverse_frequency, as Hugging Face
// transformers forms it; the functions of that float are then evaluated in
// double and rounded once, so that they are within one unit in the last place
// of the exact values for every finite angle below 2^31.

#ifndef OCTOGATE_KERNELS_ROTARY_H_
#define OCTOGATE_KERNELS_ROTARY_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/host_device.h"

namespace octogate::kernels {

struct SineCosine {
  float sine;
  float cosine;
};

OCTOGATE_HOST_DEVICE inline SineCosine SinCos(float angle) {
  // Terms of the Taylor series; on |r| <= pi / 4 what is left out is below
  // 1e-16.
  constexpr double kSine[] = {
      -1.0 / 6,        1.0 / 120,          -1.0 / 5040,           1.0 / 362880,
      -1.0 / 39916800, 1.0 / 6227020800.0, -1.0 / 1307674368000.0};
  constexpr double kCosine[] = {
      -1.0 / 2,       1.0 / 24,        -1.0 / 720,           1.0 / 40320,
      -1.0 / 3628800, 1.0 / 479001600, -1.0 / 87178291200.0, 1.0 / 20922789888000.0};
  constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
  constexpr double kHalfPiHigh = 0x1.921fb54442d18p+0;
  constexpr double kHalfPiLow = 0x1.1a62633145c07p-54;
  constexpr double kRounder = 0x1.8p+52;
  if (!(std::fabs(angle) < 0x1p31f)) {
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    return {kNan, kNan};
  }
  const double x = angle;
  const double rounded = x * kTwoOverPi + kRounder;
  const double n = rounded - kRounder;
  const double r = std::fma(-n, kHalfPiLow, std::fma(-n, kHalfPiHigh, x));
  const double square = r * r;
  double sine = kSine[6];
  for (int i = 5; i >= 0; --i) sine = sine * square + kSine[i];
  sine = r + r * square * sine;
  double cosine = kCosine[7];
  for (int i = 6; i >= 0; --i) cosine = cosine * square + kCosine[i];
  cosine = 1 + square * cosine;
  switch (std::bit_cast<uint64_t>(rounded) & 3u) {  // the quadrant
    case 0:
      return {static_cast<float>(sine), static_cast<float>(cosine)};
    case 1:
      return {static_cast<float>(cosine), static_cast<float>(-sine)};
    case 2:
      return {static_cast<float>(-sine), static_cast<float>(-cosine)};
    default:
      return {static_cast<float>(-cosine), static_cast<float>(sine)};
  }
}

// Rotates one head: (first[i], second[i]) are the pair of frequency i. Products
// and sums are rounded separately, as transformers computes them.
OCTOGATE_HOST_DEVICE inline void RotateHead(const float* cosine, const float* sine, int frequencies,
                                            float* head) {
  float* second = head + frequencies;
  for (int i = 0; i < frequencies; ++i) {
    const float a = head[i];
    const float b = second[i];
    head[i] = a * cosine[i] - b * sine[i];
    second[i] = b * cosine[i] + a * sine[i];
  }
}

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_ROTARY_H_
