#ifndef OCTOGATE_GATEWAY_TOOLS_CALCULATOR_EXACT_H_
#define OCTOGATE_GATEWAY_TOOLS_CALCULATOR_EXACT_H_

#include <gmpxx.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "gateway/tools/calculator/limits.h"

// Rational arithmetic with bounded sizes. Every function checks the size of its result before (or,
// where the operands bound it by twice the limit, right after) computing it and charges `meter`
// first. RESOURCE_EXHAUSTED names the limit; other errors say what is wrong with the operands.

namespace octogate::gateway::calculator {

using Rational = mpq_class;

struct ExactContext {
  const Limits& limits;
  WorkMeter& meter;
};

// Bits of the longer of numerator and denominator.
size_t BitsOf(const Rational& value);

bool IsInteger(const Rational& value);

// digits * 10^exponent; `digits` is a non-empty run of ASCII digits.
absl::StatusOr<Rational> FromDecimal(std::string_view digits, int64_t exponent, ExactContext exact);

absl::StatusOr<Rational> Add(const Rational& a, const Rational& b, ExactContext exact);
absl::StatusOr<Rational> Subtract(const Rational& a, const Rational& b, ExactContext exact);
absl::StatusOr<Rational> Multiply(const Rational& a, const Rational& b, ExactContext exact);
absl::StatusOr<Rational> Divide(const Rational& a, const Rational& b, ExactContext exact);
// a - b * floor(a / b).
absl::StatusOr<Rational> Modulo(const Rational& a, const Rational& b, ExactContext exact);

Rational Floor(const Rational& value);
Rational Ceil(const Rational& value);
Rational Trunc(const Rational& value);
// To `places` decimals, half away from zero.
absl::StatusOr<Rational> Round(const Rational& value, int64_t places, ExactContext exact);

// base^exponent for a whole exponent.
absl::StatusOr<Rational> Power(const Rational& base, const mpz_class& exponent, ExactContext exact);
// base^exponent for base >= 0 when the result is rational; nullopt when it is not.
absl::StatusOr<std::optional<Rational>> RationalPower(const Rational& base,
                                                      const Rational& exponent, ExactContext exact);

absl::StatusOr<Rational> Factorial(const Rational& value, ExactContext exact);
absl::StatusOr<Rational> Gcd(const Rational& a, const Rational& b, ExactContext exact);
absl::StatusOr<Rational> Lcm(const Rational& a, const Rational& b, ExactContext exact);

// The whole k with base^k == value, if there is one; value > 0, base > 0, base != 1.
absl::StatusOr<std::optional<Rational>> WholeLogarithm(const Rational& value, const Rational& base,
                                                       ExactContext exact);

// log2 |value|, to double precision; value != 0.
double Log2Of(const Rational& value);

}  // namespace octogate::gateway::calculator

#endif  // OCTOGATE_GATEWAY_TOOLS_CALCULATOR_EXACT_H_
