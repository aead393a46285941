#ifndef OCTOGATE_ROUTER_EXPONENTIAL_H_
#define OCTOGATE_ROUTER_EXPONENTIAL_H_

#include <algorithm>
#include <bit>
#include <cstdint>

namespace octogate::router {

// e^x to within 3e-7 of its value for x in [-87, 87], at the nearer end beyond. Additions and
// multiplications only, so that, unlike the standard library's, it is the same on every machine.
// Method: Cody and Waite 1980, chapter 6, with the Taylor polynomial of degree 7 on
// |r| <= ln 2 / 2.
inline __attribute__((always_inline)) float Exponential(float x) {
  constexpr float kLimit = 87;
  constexpr float kLog2E = 1.44269504F;
  // ln 2 in two parts; a multiple of the first below 2^8 is exact.
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  // Adding it leaves no room for a fraction: rounds to the nearest integer, kept in the low bits.
  constexpr float kRound = 12582912;  // 1.5 * 2^23
  x = std::min(kLimit, std::max(-kLimit, x));
  const float rounded = x * kLog2E + kRound;
  const float n = rounded - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float sum = 1.0F / 5040;
  sum = sum * r + 1.0F / 720;
  sum = sum * r + 1.0F / 120;
  sum = sum * r + 1.0F / 24;
  sum = sum * r + 1.0F / 6;
  sum = sum * r + 0.5F;
  sum = sum * r + 1.0F;
  sum = sum * r + 1.0F;
  // 2^n, by its exponent bits.
  const uint32_t exponent =
      (std::bit_cast<uint32_t>(rounded) - std::bit_cast<uint32_t>(kRound) + 127) << 23;
  return sum * std::bit_cast<float>(exponent);
}

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_EXPONENTIAL_H_
