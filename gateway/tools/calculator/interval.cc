#include "gateway/tools/calculator/interval.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace octogate::gateway::calculator {
namespace {

using UnaryFunction = int (*)(mpfr_ptr, mpfr_srcptr, mpfr_rnd_t);
using BinaryFunction = int (*)(mpfr_ptr, mpfr_srcptr, mpfr_srcptr, mpfr_rnd_t);

constexpr int64_t kArithmeticCost = 4;  // Times the precision.
constexpr int64_t kTranscendentalCost = 32;

Interval NewInterval(RealContext real) { return {Real(real.precision), Real(real.precision)}; }

absl::Status Charge(int64_t cost, RealContext real) {
  return real.meter.Charge(cost * static_cast<int64_t>(real.precision));
}

int SignOf(const Real& x) { return mpfr_sgn(x.get()); }

absl::Status CheckEnd(const Real& x, const Limits& limits) {
  if (mpfr_zero_p(x.get())) return absl::OkStatus();
  if (mpfr_number_p(x.get()) && std::abs(mpfr_get_exp(x.get())) <= limits.max_real_exponent) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("the magnitude of a number exceeds the limit of 2^", limits.max_real_exponent,
                   " (or falls below its inverse)"));
}

absl::StatusOr<Interval> Checked(Interval x, RealContext real) {
  for (const Real* end : {&x.low, &x.high}) {
    if (absl::Status status = CheckEnd(*end, real.limits); !status.ok()) return status;
  }
  return x;
}

absl::StatusOr<Interval> Increasing(UnaryFunction function, const Interval& x, RealContext real) {
  if (absl::Status status = Charge(kTranscendentalCost, real); !status.ok()) return status;
  Interval y = NewInterval(real);
  function(y.low.get(), x.low.get(), MPFR_RNDD);
  function(y.high.get(), x.high.get(), MPFR_RNDU);
  return Checked(std::move(y), real);
}

// For functions that are monotone in each operand, whose extremes lie on the corners.
absl::StatusOr<Interval> FromCorners(BinaryFunction function, const Interval& x, const Interval& y,
                                     RealContext real) {
  Interval result = NewInterval(real);
  Real corner(real.precision);
  bool first = true;
  for (const Real* a : {&x.low, &x.high}) {
    for (const Real* b : {&y.low, &y.high}) {
      function(corner.get(), a->get(), b->get(), MPFR_RNDD);
      if (first || mpfr_less_p(corner.get(), result.low.get())) result.low = corner;
      function(corner.get(), a->get(), b->get(), MPFR_RNDU);
      if (first || mpfr_greater_p(corner.get(), result.high.get())) result.high = corner;
      first = false;
    }
  }
  return Checked(std::move(result), real);
}

absl::StatusOr<Interval> PositiveLogarithm(UnaryFunction function, const Interval& x,
                                           RealContext real) {
  if (SignOf(x.high) <= 0) {
    return absl::InvalidArgumentError("the logarithm of a number that is not positive");
  }
  if (SignOf(x.low) <= 0) return NeedsMorePrecision("whether a logarithm's argument is positive");
  return Increasing(function, x, real);
}

// sin and cos change by no more than their argument does, so the value at one end and the width
// bound the others.
absl::StatusOr<Interval> Lipschitz(UnaryFunction function, const Interval& x, RealContext real) {
  if (absl::Status status = Charge(2 * kTranscendentalCost, real); !status.ok()) return status;
  for (const Real* end : {&x.low, &x.high}) {
    if (mpfr_zero_p(end->get()) || mpfr_get_exp(end->get()) <= real.limits.max_precision_bits) {
      continue;
    }
    return absl::ResourceExhaustedError(
        absl::StrCat("an angle beyond the limit of 2^", real.limits.max_precision_bits));
  }
  Interval y = NewInterval(real);
  Real width(real.precision);
  mpfr_sub(width.get(), x.high.get(), x.low.get(), MPFR_RNDU);
  if (mpfr_cmp_ui(width.get(), 2) >= 0) {
    mpfr_set_si(y.low.get(), -1, MPFR_RNDD);
    mpfr_set_si(y.high.get(), 1, MPFR_RNDU);
    return y;
  }
  function(y.low.get(), x.low.get(), MPFR_RNDD);
  function(y.high.get(), x.low.get(), MPFR_RNDU);
  mpfr_sub(y.low.get(), y.low.get(), width.get(), MPFR_RNDD);
  mpfr_add(y.high.get(), y.high.get(), width.get(), MPFR_RNDU);
  if (mpfr_cmp_si(y.low.get(), -1) < 0) mpfr_set_si(y.low.get(), -1, MPFR_RNDD);
  if (mpfr_cmp_si(y.high.get(), 1) > 0) mpfr_set_si(y.high.get(), 1, MPFR_RNDU);
  return Checked(std::move(y), real);
}

absl::Status CheckUnitRange(const Interval& x, std::string_view name) {
  const absl::string_view function(name.data(), name.size());
  if (mpfr_cmp_si(x.low.get(), 1) > 0 || mpfr_cmp_si(x.high.get(), -1) < 0) {
    return absl::InvalidArgumentError(absl::StrCat(function, " of a number outside [-1, 1]"));
  }
  if (mpfr_cmp_si(x.high.get(), 1) > 0 || mpfr_cmp_si(x.low.get(), -1) < 0) {
    return NeedsMorePrecision("whether a number lies within [-1, 1]");
  }
  return absl::OkStatus();
}

// |log2 |x||, an upper bound that is good enough to refuse overflows.
double Log2Magnitude(const Real& x) {
  if (mpfr_zero_p(x.get())) return 0;
  long exponent = 0;
  const double mantissa = mpfr_get_d_2exp(&exponent, x.get(), MPFR_RNDN);
  return std::abs(std::log2(std::abs(mantissa)) + static_cast<double>(exponent));
}

absl::Status CheckPower(const Interval& x, double exponent_magnitude, RealContext real) {
  const double log = std::max(Log2Magnitude(x.low), Log2Magnitude(x.high));
  constexpr double kMaxExponent = 0x1p256;  // MPFR computes integer powers bit by bit.
  if (exponent_magnitude < kMaxExponent &&
      log * exponent_magnitude <= static_cast<double>(real.limits.max_real_exponent)) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("the magnitude of a power exceeds the limit of 2^",
                   real.limits.max_real_exponent, " (or falls below its inverse)"));
}

}  // namespace

absl::Status NeedsMorePrecision(std::string_view what) {
  return absl::AbortedError(absl::string_view(what.data(), what.size()));
}

absl::StatusOr<Interval> ToInterval(const Rational& value, RealContext real) {
  const int64_t bits = static_cast<int64_t>(BitsOf(value));
  if (absl::Status status = real.meter.Charge(bits + real.precision); !status.ok()) return status;
  Interval x = NewInterval(real);
  mpfr_set_q(x.low.get(), value.get_mpq_t(), MPFR_RNDD);
  mpfr_set_q(x.high.get(), value.get_mpq_t(), MPFR_RNDU);
  return x;
}

absl::StatusOr<Interval> PiInterval(const Rational& factor, RealContext real) {
  if (absl::Status status = Charge(kTranscendentalCost, real); !status.ok()) return status;
  Interval pi = NewInterval(real);
  mpfr_const_pi(pi.low.get(), MPFR_RNDD);
  mpfr_const_pi(pi.high.get(), MPFR_RNDU);
  if (factor == 1) return pi;
  const absl::StatusOr<Interval> scale = ToInterval(factor, real);
  if (!scale.ok()) return scale;
  return Multiply(pi, *scale, real);
}

absl::StatusOr<Interval> Negate(const Interval& x, RealContext real) {
  Interval y = NewInterval(real);
  mpfr_neg(y.low.get(), x.high.get(), MPFR_RNDD);
  mpfr_neg(y.high.get(), x.low.get(), MPFR_RNDU);
  return y;
}

absl::StatusOr<Interval> Abs(const Interval& x, RealContext real) {
  if (SignOf(x.low) >= 0) return x;
  absl::StatusOr<Interval> negated = Negate(x, real);
  if (!negated.ok() || SignOf(x.high) <= 0) return negated;
  Interval y = NewInterval(real);
  mpfr_set_zero(y.low.get(), 1);
  mpfr_max(y.high.get(), x.high.get(), negated->high.get(), MPFR_RNDU);
  return y;
}

absl::StatusOr<Interval> Min(const Interval& x, const Interval& y, RealContext real) {
  Interval result = NewInterval(real);
  mpfr_min(result.low.get(), x.low.get(), y.low.get(), MPFR_RNDD);
  mpfr_min(result.high.get(), x.high.get(), y.high.get(), MPFR_RNDU);
  return result;
}

absl::StatusOr<Interval> Max(const Interval& x, const Interval& y, RealContext real) {
  Interval result = NewInterval(real);
  mpfr_max(result.low.get(), x.low.get(), y.low.get(), MPFR_RNDD);
  mpfr_max(result.high.get(), x.high.get(), y.high.get(), MPFR_RNDU);
  return result;
}

absl::StatusOr<Interval> Add(const Interval& x, const Interval& y, RealContext real) {
  if (absl::Status status = Charge(kArithmeticCost, real); !status.ok()) return status;
  Interval sum = NewInterval(real);
  mpfr_add(sum.low.get(), x.low.get(), y.low.get(), MPFR_RNDD);
  mpfr_add(sum.high.get(), x.high.get(), y.high.get(), MPFR_RNDU);
  return Checked(std::move(sum), real);
}

absl::StatusOr<Interval> Subtract(const Interval& x, const Interval& y, RealContext real) {
  if (absl::Status status = Charge(kArithmeticCost, real); !status.ok()) return status;
  Interval difference = NewInterval(real);
  mpfr_sub(difference.low.get(), x.low.get(), y.high.get(), MPFR_RNDD);
  mpfr_sub(difference.high.get(), x.high.get(), y.low.get(), MPFR_RNDU);
  return Checked(std::move(difference), real);
}

absl::StatusOr<Interval> Multiply(const Interval& x, const Interval& y, RealContext real) {
  if (absl::Status status = Charge(2 * kArithmeticCost, real); !status.ok()) return status;
  return FromCorners(mpfr_mul, x, y, real);
}

absl::StatusOr<Interval> Divide(const Interval& x, const Interval& y, RealContext real) {
  if (SignOf(y.low) == 0 && SignOf(y.high) == 0) {
    return absl::InvalidArgumentError("division by zero");
  }
  if (SignOf(y.low) <= 0 && SignOf(y.high) >= 0) {
    return NeedsMorePrecision("whether a divisor is zero");
  }
  if (absl::Status status = Charge(2 * kArithmeticCost, real); !status.ok()) return status;
  return FromCorners(mpfr_div, x, y, real);
}

absl::StatusOr<Interval> Power(const Interval& x, const mpz_class& y, RealContext real) {
  if (absl::Status status = Charge(2 * kTranscendentalCost, real); !status.ok()) return status;
  const double magnitude = std::abs(y.get_d());
  if (absl::Status status = CheckPower(x, magnitude, real); !status.ok()) return status;
  if (y < 0) {
    const absl::StatusOr<Interval> power = Power(x, -y, real);
    if (!power.ok()) return power;
    const absl::StatusOr<Interval> one = ToInterval(1, real);
    if (!one.ok()) return one;
    return Divide(*one, *power, real);
  }
  absl::StatusOr<Interval> base = x;
  if (mpz_even_p(y.get_mpz_t())) base = Abs(x, real);
  if (!base.ok()) return base;
  Interval power = NewInterval(real);
  mpfr_pow_z(power.low.get(), base->low.get(), y.get_mpz_t(), MPFR_RNDD);
  mpfr_pow_z(power.high.get(), base->high.get(), y.get_mpz_t(), MPFR_RNDU);
  return Checked(std::move(power), real);
}

absl::StatusOr<Interval> Power(const Interval& x, const Interval& y, RealContext real) {
  if (SignOf(x.high) < 0) {
    return absl::InvalidArgumentError(
        "a negative number to a power that is not whole is not a real number; cbrt(x) takes the "
        "real cube root");
  }
  if (SignOf(x.low) <= 0) return NeedsMorePrecision("whether the base of a power is positive");
  if (absl::Status status = Charge(4 * kTranscendentalCost, real); !status.ok()) return status;
  const double magnitude = std::max(std::abs(mpfr_get_d(y.low.get(), MPFR_RNDA)),
                                    std::abs(mpfr_get_d(y.high.get(), MPFR_RNDA)));
  if (absl::Status status = CheckPower(x, magnitude, real); !status.ok()) return status;
  return FromCorners(mpfr_pow, x, y, real);
}

absl::StatusOr<Interval> Sqrt(const Interval& x, RealContext real) {
  if (SignOf(x.high) < 0) return absl::InvalidArgumentError("the square root of a negative number");
  if (SignOf(x.low) < 0) return NeedsMorePrecision("whether a square root's argument is negative");
  return Increasing(mpfr_sqrt, x, real);
}

absl::StatusOr<Interval> Cbrt(const Interval& x, RealContext real) {
  return Increasing(mpfr_cbrt, x, real);
}

absl::StatusOr<Interval> Exp(const Interval& x, RealContext real) {
  return Increasing(mpfr_exp, x, real);
}

absl::StatusOr<Interval> Ln(const Interval& x, RealContext real) {
  return PositiveLogarithm(mpfr_log, x, real);
}

absl::StatusOr<Interval> Log2(const Interval& x, RealContext real) {
  return PositiveLogarithm(mpfr_log2, x, real);
}

absl::StatusOr<Interval> Log10(const Interval& x, RealContext real) {
  return PositiveLogarithm(mpfr_log10, x, real);
}

absl::StatusOr<Interval> Sin(const Interval& x, RealContext real) {
  return Lipschitz(mpfr_sin, x, real);
}

absl::StatusOr<Interval> Cos(const Interval& x, RealContext real) {
  return Lipschitz(mpfr_cos, x, real);
}

absl::StatusOr<Interval> Tan(const Interval& x, RealContext real) {
  const absl::StatusOr<Interval> sine = Sin(x, real);
  if (!sine.ok()) return sine;
  const absl::StatusOr<Interval> cosine = Cos(x, real);
  if (!cosine.ok()) return cosine;
  return Divide(*sine, *cosine, real);
}

absl::StatusOr<Interval> Asin(const Interval& x, RealContext real) {
  if (absl::Status status = CheckUnitRange(x, "asin"); !status.ok()) return status;
  return Increasing(mpfr_asin, x, real);
}

absl::StatusOr<Interval> Acos(const Interval& x, RealContext real) {
  if (absl::Status status = CheckUnitRange(x, "acos"); !status.ok()) return status;
  return Increasing(mpfr_acos, Interval{x.high, x.low}, real);  // It decreases.
}

absl::StatusOr<Interval> Atan(const Interval& x, RealContext real) {
  return Increasing(mpfr_atan, x, real);
}

absl::StatusOr<Rational> RoundToPlaces(const Interval& x, Rounding rounding, int64_t places,
                                       RealContext real) {
  const ExactContext exact{real.limits, real.meter};
  const absl::StatusOr<Rational> scale = FromDecimal("1", places, exact);
  if (!scale.ok()) return scale;
  const absl::StatusOr<Interval> factor = ToInterval(*scale, real);
  if (!factor.ok()) return factor.status();
  const absl::StatusOr<Interval> scaled = Multiply(x, *factor, real);
  if (!scaled.ok()) return scaled.status();
  mpfr_rnd_t mode = MPFR_RNDN;
  if (rounding == Rounding::kFloor) mode = MPFR_RNDD;
  if (rounding == Rounding::kCeil) mode = MPFR_RNDU;
  if (rounding == Rounding::kTrunc) mode = MPFR_RNDZ;
  Interval whole = NewInterval(real);
  const auto round = [&](Real& to, const Real& from) {
    if (rounding == Rounding::kHalfAway) {
      mpfr_round(to.get(), from.get());
    } else {
      mpfr_rint(to.get(), from.get(), mode);
    }
  };
  round(whole.low, scaled->low);
  round(whole.high, scaled->high);
  if (!mpfr_equal_p(whole.low.get(), whole.high.get())) {
    return NeedsMorePrecision("to which number a value is rounded");
  }
  if (mpfr_zero_p(whole.low.get())) return Rational(0);
  if (mpfr_get_exp(whole.low.get()) > static_cast<mpfr_exp_t>(real.limits.max_bits)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a whole number beyond the limit of ", real.limits.max_bits, " bits"));
  }
  // Whole numbers that take more bits than the precision are known only when both ends are exact.
  mpz_class rounded;
  mpfr_get_z(rounded.get_mpz_t(), whole.low.get(), MPFR_RNDN);
  return Divide(Rational(rounded), *scale, exact);
}

}  // namespace octogate::gateway::calculator
