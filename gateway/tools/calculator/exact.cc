#include "gateway/tools/calculator/exact.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace octogate::gateway::calculator {
namespace {

constexpr double kBitsPerDigit = 3.3219280948873626;

size_t BitsOfWhole(const mpz_class& value) { return mpz_sizeinbase(value.get_mpz_t(), 2); }

absl::Status TooLarge(double bits, const Limits& limits) {
  return absl::ResourceExhaustedError(absl::StrFormat(
      "a number of about %.4g bits exceeds the limit of %d bits (some %d digits)", bits,
      limits.max_bits, static_cast<int64_t>(static_cast<double>(limits.max_bits) / kBitsPerDigit)));
}

absl::Status CheckBits(double bits, const Limits& limits) {
  if (bits <= static_cast<double>(limits.max_bits)) return absl::OkStatus();
  return TooLarge(bits, limits);
}

absl::StatusOr<Rational> Checked(Rational value, ExactContext exact) {
  const size_t bits = BitsOf(value);
  if (bits > exact.limits.max_bits) return TooLarge(static_cast<double>(bits), exact.limits);
  return value;
}

// The cost of arithmetic on a and b: mostly the common divisors that keep results in lowest terms.
absl::Status Charge(const Rational& a, const Rational& b, ExactContext exact) {
  return exact.meter.Charge(static_cast<int64_t>(2 * (BitsOf(a) + BitsOf(b))));
}

absl::StatusOr<mpz_class> PowerOfTen(uint64_t exponent, ExactContext exact) {
  const double bits = static_cast<double>(exponent) * kBitsPerDigit;
  if (absl::Status status = CheckBits(bits, exact.limits); !status.ok()) return status;
  if (absl::Status status = exact.meter.Charge(static_cast<int64_t>(bits)); !status.ok()) {
    return status;
  }
  mpz_class power;
  mpz_ui_pow_ui(power.get_mpz_t(), 10, exponent);
  return power;
}

double Log2OfWhole(const mpz_class& value) {
  signed long exponent = 0;
  const double mantissa = mpz_get_d_2exp(&exponent, value.get_mpz_t());
  return std::log2(std::abs(mantissa)) + static_cast<double>(exponent);
}

// The exact non-negative root, if there is one.
std::optional<mpz_class> ExactRoot(const mpz_class& value, unsigned long degree) {
  mpz_class root;
  if (mpz_root(root.get_mpz_t(), value.get_mpz_t(), degree) == 0) return std::nullopt;
  return root;
}

absl::Status CheckWhole(const Rational& a, const Rational& b, std::string_view what) {
  if (IsInteger(a) && IsInteger(b)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(absl::string_view(what.data(), what.size()), " needs whole numbers"));
}

}  // namespace

size_t BitsOf(const Rational& value) {
  return std::max(BitsOfWhole(value.get_num()), BitsOfWhole(value.get_den()));
}

bool IsInteger(const Rational& value) { return value.get_den() == 1; }

double Log2Of(const Rational& value) {
  return Log2OfWhole(value.get_num()) - Log2OfWhole(value.get_den());
}

absl::StatusOr<Rational> FromDecimal(std::string_view digits, int64_t exponent,
                                     ExactContext exact) {
  const double bits = static_cast<double>(digits.size()) * kBitsPerDigit;
  if (absl::Status status = CheckBits(bits, exact.limits); !status.ok()) return status;
  const mpz_class whole{std::string(digits), 10};
  if (whole == 0) return Rational(0);
  const absl::StatusOr<mpz_class> power =
      PowerOfTen(static_cast<uint64_t>(std::abs(exponent)), exact);
  if (!power.ok()) return power.status();
  Rational value = exponent >= 0 ? Rational(whole * *power) : Rational(whole, *power);
  value.canonicalize();
  return Checked(std::move(value), exact);
}

absl::StatusOr<Rational> Add(const Rational& a, const Rational& b, ExactContext exact) {
  if (absl::Status status = Charge(a, b, exact); !status.ok()) return status;
  return Checked(a + b, exact);
}

absl::StatusOr<Rational> Subtract(const Rational& a, const Rational& b, ExactContext exact) {
  if (absl::Status status = Charge(a, b, exact); !status.ok()) return status;
  return Checked(a - b, exact);
}

absl::StatusOr<Rational> Multiply(const Rational& a, const Rational& b, ExactContext exact) {
  if (absl::Status status = Charge(a, b, exact); !status.ok()) return status;
  return Checked(a * b, exact);
}

absl::StatusOr<Rational> Divide(const Rational& a, const Rational& b, ExactContext exact) {
  if (b == 0) return absl::InvalidArgumentError("division by zero");
  if (absl::Status status = Charge(a, b, exact); !status.ok()) return status;
  return Checked(a / b, exact);
}

absl::StatusOr<Rational> Modulo(const Rational& a, const Rational& b, ExactContext exact) {
  if (b == 0) return absl::InvalidArgumentError("the remainder of a division by zero");
  if (absl::Status status = Charge(a, b, exact); !status.ok()) return status;
  // Whole numbers over the common denominator keep the sizes at twice the operands'.
  const mpz_class left = a.get_num() * b.get_den();
  const mpz_class right = b.get_num() * a.get_den();
  mpz_class remainder;
  mpz_fdiv_r(remainder.get_mpz_t(), left.get_mpz_t(), right.get_mpz_t());
  Rational value(remainder, a.get_den() * b.get_den());
  value.canonicalize();
  return Checked(std::move(value), exact);
}

Rational Floor(const Rational& value) {
  mpz_class whole;
  mpz_fdiv_q(whole.get_mpz_t(), value.get_num_mpz_t(), value.get_den_mpz_t());
  return Rational(whole);
}

Rational Ceil(const Rational& value) {
  mpz_class whole;
  mpz_cdiv_q(whole.get_mpz_t(), value.get_num_mpz_t(), value.get_den_mpz_t());
  return Rational(whole);
}

Rational Trunc(const Rational& value) { return value < 0 ? Ceil(value) : Floor(value); }

absl::StatusOr<Rational> Round(const Rational& value, int64_t places, ExactContext exact) {
  const absl::StatusOr<mpz_class> power =
      PowerOfTen(static_cast<uint64_t>(std::abs(places)), exact);
  if (!power.ok()) return power.status();
  if (absl::Status status = Charge(value, Rational(*power), exact); !status.ok()) return status;
  const Rational scale = places >= 0 ? Rational(*power) : Rational(1) / Rational(*power);
  const Rational scaled = abs(value) * scale;
  const Rational rounded = Floor(scaled + Rational(1, 2)) / scale;
  return Checked(value < 0 ? Rational(-rounded) : rounded, exact);
}

absl::StatusOr<Rational> Power(const Rational& base, const mpz_class& exponent,
                               ExactContext exact) {
  if (exponent == 0) return Rational(1);
  if (base == 0) {
    if (exponent < 0) return absl::InvalidArgumentError("division by zero: 0 to a negative power");
    return base;
  }
  if (abs(base) == 1) return base == 1 || mpz_even_p(exponent.get_mpz_t()) ? Rational(1) : base;
  // |base| is at least 2 on one side, so a longer exponent cannot fit.
  const double magnitude = std::exp2(std::min(1000.0, Log2OfWhole(exponent)));
  const double bits =
      magnitude * std::max(Log2OfWhole(base.get_num()), Log2OfWhole(base.get_den()));
  if (absl::Status status = CheckBits(bits, exact.limits); !status.ok()) return status;
  if (absl::Status status = exact.meter.Charge(static_cast<int64_t>(2 * bits)); !status.ok()) {
    return status;
  }
  const unsigned long times = mpz_get_ui(mpz_class(abs(exponent)).get_mpz_t());
  Rational power;
  mpz_pow_ui(power.get_num_mpz_t(), base.get_num_mpz_t(), times);
  mpz_pow_ui(power.get_den_mpz_t(), base.get_den_mpz_t(), times);
  return exponent < 0 ? Rational(1 / power) : power;
}

absl::StatusOr<std::optional<Rational>> RationalPower(const Rational& base,
                                                      const Rational& exponent,
                                                      ExactContext exact) {
  if (base == 0 || base == 1) {
    if (base == 0 && exponent < 0) {
      return absl::InvalidArgumentError("division by zero: 0 to a negative power");
    }
    return std::optional<Rational>(base);
  }
  const mpz_class& degree = exponent.get_den();
  // The only numbers with a root of so high a degree are 0 and 1.
  if (degree > mpz_class(static_cast<unsigned long>(BitsOf(base)))) return std::nullopt;
  if (absl::Status status = Charge(base, base, exact); !status.ok()) return status;
  const std::optional<mpz_class> numerator = ExactRoot(base.get_num(), degree.get_ui());
  if (!numerator.has_value()) return std::nullopt;
  const std::optional<mpz_class> denominator = ExactRoot(base.get_den(), degree.get_ui());
  if (!denominator.has_value()) return std::nullopt;
  absl::StatusOr<Rational> power =
      Power(Rational(*numerator, *denominator), exponent.get_num(), exact);
  if (!power.ok()) return power.status();
  return std::optional<Rational>(*std::move(power));
}

absl::StatusOr<Rational> Factorial(const Rational& value, ExactContext exact) {
  if (!IsInteger(value) || value < 0) {
    return absl::InvalidArgumentError("a factorial needs a whole number that is not negative");
  }
  const double n = value.get_d();
  const double bits = n < 1e15 ? std::lgamma(n + 1) / std::log(2.0) : n;
  if (absl::Status status = CheckBits(bits, exact.limits); !status.ok()) return status;
  if (absl::Status status = exact.meter.Charge(static_cast<int64_t>(2 * bits)); !status.ok()) {
    return status;
  }
  mpz_class product;
  mpz_fac_ui(product.get_mpz_t(), value.get_num().get_ui());
  return Checked(Rational(product), exact);
}

absl::StatusOr<Rational> Gcd(const Rational& a, const Rational& b, ExactContext exact) {
  if (absl::Status status = CheckWhole(a, b, "the greatest common divisor"); !status.ok()) {
    return status;
  }
  if (absl::Status status = Charge(a, b, exact); !status.ok()) return status;
  return Rational(gcd(a.get_num(), b.get_num()));
}

absl::StatusOr<Rational> Lcm(const Rational& a, const Rational& b, ExactContext exact) {
  if (absl::Status status = CheckWhole(a, b, "the least common multiple"); !status.ok()) {
    return status;
  }
  if (absl::Status status = Charge(a, b, exact); !status.ok()) return status;
  return Checked(Rational(lcm(a.get_num(), b.get_num())), exact);
}

absl::StatusOr<std::optional<Rational>> WholeLogarithm(const Rational& value, const Rational& base,
                                                       ExactContext exact) {
  const double quotient = Log2Of(value) / Log2Of(base);
  if (!(std::abs(quotient) <= static_cast<double>(exact.limits.max_bits))) return std::nullopt;
  const double nearest = std::round(quotient);
  if (std::abs(quotient - nearest) > 1e-6 * std::max(1.0, std::abs(nearest))) return std::nullopt;
  const mpz_class exponent(nearest);
  // When the power is too large to compute, it is too large to be equal.
  const absl::StatusOr<Rational> power = Power(base, exponent, exact);
  if (!power.ok() || *power != value) return std::nullopt;
  return std::optional<Rational>(Rational(exponent));
}

}  // namespace octogate::gateway::calculator
