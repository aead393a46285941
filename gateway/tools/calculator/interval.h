#ifndef OCTOGATE_GATEWAY_TOOLS_CALCULATOR_INTERVAL_H_
#define OCTOGATE_GATEWAY_TOOLS_CALCULATOR_INTERVAL_H_

#include <mpfr.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "gateway/tools/calculator/exact.h"

// Irrational numbers as intervals that are certain to hold them: MPFR rounds the lower end down
// and the upper end up. The evaluator repeats a calculation with more bits until the ends agree in
// every digit that is to be printed (A. Ziv, "Fast evaluation of elementary mathematical functions
// with correctly rounded last bit", 1991, applied to whole expressions).

namespace octogate::gateway::calculator {

// Owns one MPFR number of a fixed precision; not a number until set.
class Real {
 public:
  explicit Real(mpfr_prec_t precision) { mpfr_init2(value_, precision); }
  Real(const Real& other) : Real(mpfr_get_prec(other.value_)) {
    mpfr_set(value_, other.value_, MPFR_RNDN);
  }
  Real& operator=(const Real& other) {
    mpfr_set_prec(value_, mpfr_get_prec(other.value_));
    mpfr_set(value_, other.value_, MPFR_RNDN);
    return *this;
  }
  ~Real() { mpfr_clear(value_); }

  mpfr_ptr get() { return value_; }
  mpfr_srcptr get() const { return value_; }

 private:
  mpfr_t value_;
};

struct Interval {
  Real low;
  Real high;
};

// How an operation on intervals runs.
struct RealContext {
  const Limits& limits;
  WorkMeter& meter;
  mpfr_prec_t precision;  // Bits of every result.
};

// ABORTED: an interval too wide to decide `what`; the same calculation with more bits may.
absl::Status NeedsMorePrecision(std::string_view what);

absl::StatusOr<Interval> ToInterval(const Rational& value, RealContext real);
// factor * pi.
absl::StatusOr<Interval> PiInterval(const Rational& factor, RealContext real);

absl::StatusOr<Interval> Negate(const Interval& x, RealContext real);
absl::StatusOr<Interval> Abs(const Interval& x, RealContext real);
absl::StatusOr<Interval> Min(const Interval& x, const Interval& y, RealContext real);
absl::StatusOr<Interval> Max(const Interval& x, const Interval& y, RealContext real);
absl::StatusOr<Interval> Add(const Interval& x, const Interval& y, RealContext real);
absl::StatusOr<Interval> Subtract(const Interval& x, const Interval& y, RealContext real);
absl::StatusOr<Interval> Multiply(const Interval& x, const Interval& y, RealContext real);
absl::StatusOr<Interval> Divide(const Interval& x, const Interval& y, RealContext real);
absl::StatusOr<Interval> Power(const Interval& x, const mpz_class& y, RealContext real);
absl::StatusOr<Interval> Power(const Interval& x, const Interval& y, RealContext real);

absl::StatusOr<Interval> Sqrt(const Interval& x, RealContext real);
absl::StatusOr<Interval> Cbrt(const Interval& x, RealContext real);
absl::StatusOr<Interval> Exp(const Interval& x, RealContext real);
absl::StatusOr<Interval> Ln(const Interval& x, RealContext real);
absl::StatusOr<Interval> Log2(const Interval& x, RealContext real);
absl::StatusOr<Interval> Log10(const Interval& x, RealContext real);
absl::StatusOr<Interval> Sin(const Interval& x, RealContext real);
absl::StatusOr<Interval> Cos(const Interval& x, RealContext real);
absl::StatusOr<Interval> Tan(const Interval& x, RealContext real);
absl::StatusOr<Interval> Asin(const Interval& x, RealContext real);
absl::StatusOr<Interval> Acos(const Interval& x, RealContext real);
absl::StatusOr<Interval> Atan(const Interval& x, RealContext real);

enum class Rounding { kFloor, kCeil, kTrunc, kHalfAway };

// x rounded to `places` decimals; ABORTED while the ends round to different numbers.
absl::StatusOr<Rational> RoundToPlaces(const Interval& x, Rounding rounding, int64_t places,
                                       RealContext real);

}  // namespace octogate::gateway::calculator

#endif  // OCTOGATE_GATEWAY_TOOLS_CALCULATOR_INTERVAL_H_
