#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gateway/tools/calculator/value.h"

namespace octogate::gateway::calculator {
namespace {

using Result = absl::StatusOr<Interval>;
using Binary = Result (*)(const Interval&, const Interval&, RealContext);

Result Fold(Binary operation, const std::vector<Interval>& x, RealContext real) {
  Result total = x[0];
  for (size_t i = 1; i < x.size() && total.ok(); ++i) total = operation(*total, x[i], real);
  return total;
}

// Combines an operation's StatusOr operands.
Result Then(Binary operation, const Result& a, const Result& b, RealContext real) {
  if (!a.ok()) return a;
  if (!b.ok()) return b;
  return operation(*a, *b, real);
}

Result Constant(const Rational& value, RealContext real) { return ToInterval(value, real); }

bool IsExactlyZero(const Interval& x) {
  return mpfr_zero_p(x.low.get()) && mpfr_zero_p(x.high.get());
}

Result Remainder(const Interval& a, const Interval& b, RealContext real) {
  const Result quotient = Divide(a, b, real);
  if (!quotient.ok()) return quotient;
  const absl::StatusOr<Rational> whole = RoundToPlaces(*quotient, Rounding::kFloor, 0, real);
  if (!whole.ok()) return whole.status();
  return Then(Subtract, a, Then(Multiply, b, Constant(*whole, real), real), real);
}

Result RealPower(const Value& exponent, const std::vector<Interval>& x, RealContext real) {
  const Rational* rational = std::get_if<Rational>(&exponent);
  if (rational != nullptr && IsInteger(*rational)) return Power(x[0], rational->get_num(), real);
  if (IsExactlyZero(x[0])) {
    if (mpfr_sgn(x[1].low.get()) > 0) return x[0];
    if (mpfr_sgn(x[1].high.get()) < 0) {
      return absl::InvalidArgumentError("division by zero: 0 to a negative power");
    }
    return NeedsMorePrecision("whether the exponent of 0 is positive");
  }
  return Power(x[0], x[1], real);
}

absl::StatusOr<Value> Rounded(Operation operation, absl::Span<const Value* const> arguments,
                              const Interval& x, RealContext real) {
  Rounding rounding = Rounding::kHalfAway;
  if (operation == Operation::kFloor) rounding = Rounding::kFloor;
  if (operation == Operation::kCeil) rounding = Rounding::kCeil;
  if (operation == Operation::kTrunc) rounding = Rounding::kTrunc;
  int64_t places = 0;
  if (arguments.size() > 1) {
    const Rational* wanted = std::get_if<Rational>(arguments[1]);
    if (wanted == nullptr || !IsInteger(*wanted) || !wanted->get_num().fits_sint_p()) {
      return absl::InvalidArgumentError("round takes a small whole number of decimal places");
    }
    places = wanted->get_num().get_si();
  }
  absl::StatusOr<Rational> result = RoundToPlaces(x, rounding, places, real);
  if (!result.ok()) return result.status();
  return Value(*std::move(result));
}

Result Logarithm(const std::vector<Interval>& x, RealContext real) {
  if (x.size() == 1) return Log10(x[0], real);
  return Then(Divide, Ln(x[0], real), Ln(x[1], real), real);
}

Result Apply(Operation operation, absl::Span<const Value* const> arguments,
             const std::vector<Interval>& x, RealContext real) {
  switch (operation) {
    case Operation::kE:
      return Exp(*Constant(1, real), real);
    case Operation::kNegate:
      return Negate(x[0], real);
    case Operation::kAdd:
      return Add(x[0], x[1], real);
    case Operation::kSubtract:
      return Subtract(x[0], x[1], real);
    case Operation::kMultiply:
      return Multiply(x[0], x[1], real);
    case Operation::kDivide:
      return Divide(x[0], x[1], real);
    case Operation::kModulo:
      return Remainder(x[0], x[1], real);
    case Operation::kPower:
      return RealPower(*arguments[1], x, real);
    case Operation::kPercent:
      return Then(Divide, x[0], Constant(100, real), real);
    case Operation::kPercentOff:
      return Then(Multiply, Then(Subtract, Constant(1, real), x[0], real), x[1], real);
    case Operation::kRadians:
      return Then(Multiply, x[0], PiInterval(Rational(1, 180), real), real);
    case Operation::kDegrees:
      return Then(Divide, x[0], PiInterval(Rational(1, 180), real), real);
    case Operation::kSqrt:
      return Sqrt(x[0], real);
    case Operation::kCbrt:
      return Cbrt(x[0], real);
    case Operation::kAbs:
      return Abs(x[0], real);
    case Operation::kMin:
      return Fold(Min, x, real);
    case Operation::kMax:
      return Fold(Max, x, real);
    case Operation::kSum:
      return Fold(Add, x, real);
    case Operation::kAverage:
      return Then(Divide, Fold(Add, x, real),
                  Constant(Rational(static_cast<unsigned long>(x.size())), real), real);
    case Operation::kLog:
      return Logarithm(x, real);
    case Operation::kLn:
      return Ln(x[0], real);
    case Operation::kLog2:
      return Log2(x[0], real);
    case Operation::kExp:
      return Exp(x[0], real);
    case Operation::kSin:
      return Sin(x[0], real);
    case Operation::kCos:
      return Cos(x[0], real);
    case Operation::kTan:
      return Tan(x[0], real);
    case Operation::kAsin:
      return Asin(x[0], real);
    case Operation::kAcos:
      return Acos(x[0], real);
    case Operation::kAtan:
      return Atan(x[0], real);
    default:
      return absl::InternalError("an operation without a rule for irrational numbers");
  }
}

}  // namespace

absl::StatusOr<Interval> ToInterval(const Value& value, RealContext real) {
  if (const auto* rational = std::get_if<Rational>(&value)) return ToInterval(*rational, real);
  if (const auto* pi = std::get_if<PiMultiple>(&value)) return PiInterval(pi->factor, real);
  return std::get<Interval>(value);
}

absl::StatusOr<Value> ApplyReal(Operation operation, absl::Span<const Value* const> arguments,
                                RealContext real) {
  std::vector<Interval> x;
  x.reserve(arguments.size());
  for (const Value* argument : arguments) {
    absl::StatusOr<Interval> interval = ToInterval(*argument, real);
    if (!interval.ok()) return interval.status();
    x.push_back(*std::move(interval));
  }
  switch (operation) {
    case Operation::kFloor:
    case Operation::kCeil:
    case Operation::kRound:
    case Operation::kTrunc:
      return Rounded(operation, arguments, x[0], real);
    default:
      break;
  }
  absl::StatusOr<Interval> result = Apply(operation, arguments, x, real);
  if (!result.ok()) return result.status();
  return Value(*std::move(result));
}

}  // namespace octogate::gateway::calculator
