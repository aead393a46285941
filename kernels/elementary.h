// Elementary functions with one definition for every path, in scalar form, and
// the constants that the SIMD forms (kernels/cpu/elementary-inl.h) share.
//
// They use only IEEE operations and fma, hence they give the same bits on every
// machine, which libm does not promise. Accuracy, measured by
// tests/kernels/elementary_test.cc against double: Exp within 1.25 units in the
// last place, Log within 0.51; GELU and SiLU within 1e-6 of the magnitude of x, the erf form's
// negative tail included.

#ifndef OCTOGATE_KERNELS_ELEMENTARY_H_
#define OCTOGATE_KERNELS_ELEMENTARY_H_

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/host_device.h"

namespace octogate::kernels {

// a < b ? a : b, so that a NaN in `b` is passed on (as x86 minps does).
OCTOGATE_HOST_DEVICE inline float Minimum(float a, float b) { return a < b ? a : b; }
OCTOGATE_HOST_DEVICE inline float Maximum(float a, float b) { return a > b ? a : b; }

// exp(x) = 2^n * exp(r) with n = round(x / ln 2), |r| <= ln(2) / 2, and
// exp(r) = 1 + r + r^2 * polynomial(r), fitted for relative error 3.2e-9.
namespace exp_constants {
inline constexpr float kMax = 89.0f;    // beyond: infinity
inline constexpr float kMin = -104.0f;  // beyond: zero
inline constexpr float kLog2E = 1.44269504f;
inline constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: rounds to integer
inline constexpr float kLn2High = 0.693359375f;
inline constexpr float kLn2Low = -2.12194440e-4f;
inline constexpr float kP4 = 0x1.6db47ep-10f;
inline constexpr float kP3 = 0x1.123b92p-7f;
inline constexpr float kP2 = 0x1.55545ep-5f;
inline constexpr float kP1 = 0x1.55548ep-3f;
inline constexpr float kP0 = 0.5f;
}  // namespace exp_constants

// Multiplies y by 2^n where `rounded` is n + kRounder, in two exact factors so
// that subnormal results are rounded once.
OCTOGATE_HOST_DEVICE inline float ScaleByPowerOfTwo(float y, float rounded) {
  const uint32_t offset =
      std::bit_cast<uint32_t>(rounded) - std::bit_cast<uint32_t>(exp_constants::kRounder);
  const int32_t n = static_cast<int32_t>(offset);
  const int32_t first = n >> 1;
  const uint32_t second = offset - static_cast<uint32_t>(first);
  const float factor1 = std::bit_cast<float>((static_cast<uint32_t>(first) + 127u) << 23);
  const float factor2 = std::bit_cast<float>((second + 127u) << 23);
  return y * factor1 * factor2;
}

OCTOGATE_HOST_DEVICE inline float Exp(float x) {
  using namespace exp_constants;  // NOLINT(google-build-using-namespace)
  x = Maximum(kMin, Minimum(kMax, x));
  const float rounded = std::fma(x, kLog2E, kRounder);
  const float n = rounded - kRounder;
  float r = std::fma(n, -kLn2High, x);
  r = std::fma(n, -kLn2Low, r);
  float p = kP4;
  p = std::fma(p, r, kP3);
  p = std::fma(p, r, kP2);
  p = std::fma(p, r, kP1);
  p = std::fma(p, r, kP0);
  const float y = std::fma(r * r, p, r) + 1.0f;
  return ScaleByPowerOfTwo(y, rounded);
}

// log(x) = n * ln 2 + 2 * atanh(z) with x = 2^n * m, m in [sqrt(1/2), sqrt(2)),
// z = (m - 1) / (m + 1); in double, rounded once. For single values: there is no
// SIMD form.
inline float Log(float x) {
  if (!(x > 0)) return x == 0 ? -HUGE_VALF : __builtin_nanf("");
  if (x == HUGE_VALF) return x;
  constexpr uint64_t kSqrtHalf = 0x3FE6A09E667F3BCDu;
  const uint64_t bits = std::bit_cast<uint64_t>(static_cast<double>(x));
  const uint64_t n = (bits - kSqrtHalf) >> 52;  // modulo 2^12
  const double m = std::bit_cast<double>(bits - (n << 52));
  const double exponent = static_cast<double>(static_cast<int64_t>(n << 52) >> 52);
  const double z = (m - 1) / (m + 1);
  const double square = z * z;
  double sum = 1.0 / 17;
  for (int i = 15; i >= 3; i -= 2) sum = sum * square + 1.0 / i;
  return static_cast<float>(exponent * 0x1.62e42fefa39efp-1 + 2 * (z + z * square * sum));
}

// x * sigmoid(x).
OCTOGATE_HOST_DEVICE inline float Silu(float x) { return x / (1.0f + Exp(0.0f - x)); }

namespace gelu_constants {
inline constexpr float kTanhCubic = 0.044715f;
inline constexpr float kTanhScale = -1.59576912f;  // -2 * sqrt(2 / pi)
inline constexpr float kSqrtHalf = 0.707106781f;
inline constexpr float kTail = 20.0f;  // Phi(-20) is 0 in float
// erfc(z) = exp(-z^2) * t * polynomial(t), t = 1 / (1 + 0.4 z), z >= 0, fitted
// for relative error 6.2e-8.
inline constexpr float kErfcScale = 0.4f;
inline constexpr float kErfc[9] = {
    0.22563423216342926f, 0.2264431118965149f,   0.2018875926733017f,
    0.19339320063591003f, 0.07975649833679199f,  0.08796432614326477f,
    0.083987295627594f,   -0.14031924307346344f, 0.041253041476011276f};
}  // namespace gelu_constants

// The tanh approximation of GELU, as x * sigmoid(2u) with
// u = sqrt(2 / pi) * (x + 0.044715 x^3).
OCTOGATE_HOST_DEVICE inline float GeluTanh(float x) {
  const float inner = std::fma(gelu_constants::kTanhCubic, (x * x) * x, x);
  return x / (1.0f + Exp(gelu_constants::kTanhScale * inner));
}

// x * Phi(x) = max(0, x) - |x| * erfc(|x| / sqrt(2)) / 2.
OCTOGATE_HOST_DEVICE inline float GeluErf(float x) {
  using namespace gelu_constants;  // NOLINT(google-build-using-namespace)
  const float a = Minimum(kTail, std::fabs(x));
  const float z = a * kSqrtHalf;
  const float square = z * z;
  const float error = std::fma(z, z, 0.0f - square);
  const float e = Exp(0.0f - square);
  const float t = 1.0f / std::fma(kErfcScale, z, 1.0f);
  constexpr std::array<float, 9> kPolynomial = std::to_array(kErfc);  // reachable on a GPU
  float p = kPolynomial[8];
  for (size_t i = 8; i-- > 0;) p = std::fma(p, t, kPolynomial[i]);
  const float tail = 0.5f * (std::fma(0.0f - error, e, e) * (t * p));
  return std::fma(0.0f - a, tail, Maximum(0.0f, x));
}

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_ELEMENTARY_H_
