#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "gateway/tools/calculator/value.h"

namespace octogate::gateway::calculator {
namespace {

using Arguments = absl::Span<const Value* const>;
using Result = absl::StatusOr<std::optional<Value>>;

Result Irrational() { return std::optional<Value>(std::nullopt); }

Result Wrap(absl::StatusOr<Rational> value) {
  if (!value.ok()) return value.status();
  return std::optional<Value>(*std::move(value));
}

Result WrapOptional(absl::StatusOr<std::optional<Rational>> value) {
  if (!value.ok()) return value.status();
  if (!value->has_value()) return Irrational();
  return std::optional<Value>(**std::move(value));
}

Result WrapPi(absl::StatusOr<Rational> factor) {
  if (!factor.ok()) return factor.status();
  if (*factor == 0) return Wrap(Rational(0));
  return std::optional<Value>(PiMultiple{*std::move(factor)});
}

const Rational* AsRational(const Value& value) { return std::get_if<Rational>(&value); }

// The factor of a multiple of pi.
const Rational* AsPi(const Value& value) {
  const PiMultiple* multiple = std::get_if<PiMultiple>(&value);
  return multiple == nullptr ? nullptr : &multiple->factor;
}

bool IsZero(const Value& value) {
  const Rational* rational = AsRational(value);
  return rational != nullptr && *rational == 0;
}

Result Product(const Value& a, const Value& b, ExactContext exact) {
  if (IsZero(a) || IsZero(b)) return Wrap(Rational(0));
  const Rational* left = AsRational(a);
  const Rational* right = AsRational(b);
  if (left != nullptr && right != nullptr) return Wrap(Multiply(*left, *right, exact));
  if (left != nullptr && AsPi(b) != nullptr) return WrapPi(Multiply(*left, *AsPi(b), exact));
  if (AsPi(a) != nullptr && right != nullptr) return WrapPi(Multiply(*AsPi(a), *right, exact));
  return Irrational();
}

Result Quotient(const Value& a, const Value& b, ExactContext exact) {
  const Rational* left = AsRational(a);
  const Rational* right = AsRational(b);
  if (IsZero(b)) return absl::InvalidArgumentError("division by zero");
  if (left != nullptr && right != nullptr) return Wrap(Divide(*left, *right, exact));
  if (AsPi(a) != nullptr && right != nullptr) return WrapPi(Divide(*AsPi(a), *right, exact));
  if (AsPi(a) != nullptr && AsPi(b) != nullptr) return Wrap(Divide(*AsPi(a), *AsPi(b), exact));
  return Irrational();
}

// Operations that give the same on factors of pi as on the multiples themselves.
using RationalOperation = absl::StatusOr<Rational> (*)(const Rational&, const Rational&,
                                                       ExactContext);
Result Linear(RationalOperation operation, const Value& a, const Value& b, ExactContext exact) {
  if (AsRational(a) != nullptr && AsRational(b) != nullptr) {
    return Wrap(operation(*AsRational(a), *AsRational(b), exact));
  }
  if (AsPi(a) != nullptr && AsPi(b) != nullptr) return WrapPi(operation(*AsPi(a), *AsPi(b), exact));
  return Irrational();
}

absl::StatusOr<Rational> Smaller(const Rational& a, const Rational& b, ExactContext) {
  return b < a ? b : a;
}
absl::StatusOr<Rational> Larger(const Rational& a, const Rational& b, ExactContext) {
  return a < b ? b : a;
}

Result Fold(RationalOperation operation, Arguments arguments, ExactContext exact) {
  Value total = *arguments[0];
  for (const Value* argument : arguments.subspan(1)) {
    Result next = Linear(operation, total, *argument, exact);
    if (!next.ok() || !next->has_value()) return next;
    total = **std::move(next);
  }
  return std::optional<Value>(std::move(total));
}

Result WholeNumbers(RationalOperation operation, Arguments arguments, ExactContext exact) {
  Rational total = 0;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const Rational* argument = AsRational(*arguments[i]);
    if (argument == nullptr || !IsInteger(*argument)) {
      return absl::InvalidArgumentError("gcd and lcm need whole numbers");
    }
    absl::StatusOr<Rational> next = operation(i == 0 ? *argument : total, *argument, exact);
    if (!next.ok()) return next.status();
    total = *std::move(next);
  }
  return Wrap(std::move(total));
}

Result PowerRule(const Value& base, const Value& exponent, ExactContext exact) {
  const Rational* x = AsRational(base);
  const Rational* y = AsRational(exponent);
  if (x != nullptr && *x == 1) return Wrap(Rational(1));
  if (y == nullptr) return Irrational();
  if (*y == 0) return Wrap(Rational(1));
  if (*y == 1) return std::optional<Value>(base);
  if (x == nullptr) return Irrational();
  if (IsInteger(*y)) return Wrap(Power(*x, y->get_num(), exact));
  if (*x < 0) {
    return absl::InvalidArgumentError(
        "a negative number to a power that is not whole is not a real number; cbrt(x) takes the "
        "real cube root");
  }
  return WrapOptional(RationalPower(*x, *y, exact));
}

Result RootRule(const Value& value, int degree, ExactContext exact) {
  const Rational* x = AsRational(value);
  if (x == nullptr) return Irrational();
  if (*x < 0 && degree % 2 == 0) {
    return absl::InvalidArgumentError("the square root of a negative number");
  }
  absl::StatusOr<std::optional<Rational>> root = RationalPower(abs(*x), Rational(1, degree), exact);
  if (root.ok() && root->has_value() && *x < 0) **root = -**root;
  return WrapOptional(std::move(root));
}

Result LogarithmRule(const Value& value, const Value& base, ExactContext exact) {
  const Rational* b = AsRational(base);
  if (b != nullptr && (*b <= 0 || *b == 1)) {
    return absl::InvalidArgumentError("the base of a logarithm is positive and not 1");
  }
  const Rational* x = AsRational(value);
  if (x == nullptr) return Irrational();
  if (*x <= 0) {
    return absl::InvalidArgumentError("the logarithm of a number that is not positive");
  }
  if (*x == 1) return Wrap(Rational(0));
  return b == nullptr ? Irrational() : WrapOptional(WholeLogarithm(*x, *b, exact));
}

// sin(factor * pi) where it is rational (Niven's theorem: only 0, 1/2 and 1 up to sign).
Result SineOfPi(const Rational& factor, ExactContext exact) {
  const absl::StatusOr<Rational> turn = Modulo(factor, 2, exact);
  if (!turn.ok()) return turn.status();
  const bool lower_half = *turn >= 1;
  const Rational angle = lower_half ? Rational(*turn - 1) : *turn;  // In [0, 1), as is pi's.
  Rational sine;
  if (angle == 0) {
    sine = 0;
  } else if (angle == Rational(1, 6) || angle == Rational(5, 6)) {
    sine = Rational(1, 2);
  } else if (angle == Rational(1, 2)) {
    sine = 1;
  } else {
    return Irrational();
  }
  return Wrap(lower_half ? Rational(-sine) : sine);
}

Result TangentOfPi(const Rational& factor, ExactContext exact) {
  const absl::StatusOr<Rational> angle = Modulo(factor, 1, exact);
  if (!angle.ok()) return angle.status();
  if (*angle == 0) return Wrap(Rational(0));
  if (*angle == Rational(1, 4)) return Wrap(Rational(1));
  if (*angle == Rational(3, 4)) return Wrap(Rational(-1));
  if (*angle == Rational(1, 2)) {
    return absl::InvalidArgumentError("tan of an odd multiple of a right angle is not defined");
  }
  return Irrational();
}

Result TrigonometricRule(Operation operation, const Value& value, ExactContext exact) {
  if (IsZero(value)) return Wrap(Rational(operation == Operation::kCos ? 1 : 0));
  const Rational* factor = AsPi(value);
  if (factor == nullptr) return Irrational();
  if (operation == Operation::kSin) return SineOfPi(*factor, exact);
  if (operation == Operation::kTan) return TangentOfPi(*factor, exact);
  const absl::StatusOr<Rational> shifted = Add(*factor, Rational(1, 2), exact);
  if (!shifted.ok()) return shifted.status();
  return SineOfPi(*shifted, exact);
}

Result InverseTrigonometricRule(Operation operation, const Value& value) {
  const Rational* x = AsRational(value);
  if (x == nullptr) return Irrational();
  if (operation == Operation::kAtan) {
    if (*x == 0) return Wrap(Rational(0));
    if (abs(*x) == 1) return WrapPi(Rational(*x / 4));
    return Irrational();
  }
  if (abs(*x) > 1) {
    return absl::InvalidArgumentError(operation == Operation::kAsin
                                          ? "asin of a number outside [-1, 1]"
                                          : "acos of a number outside [-1, 1]");
  }
  Rational sine_factor;
  if (*x == 0 || abs(*x) == 1) {
    sine_factor = *x / 2;
  } else if (abs(*x) == Rational(1, 2)) {
    sine_factor = *x / 3;
  } else {
    return Irrational();
  }
  if (operation == Operation::kAsin) return WrapPi(sine_factor);
  return WrapPi(Rational(Rational(1, 2) - sine_factor));
}

Result RoundRule(Operation operation, Arguments arguments, ExactContext exact) {
  const Rational* x = AsRational(*arguments[0]);
  if (x == nullptr) return Irrational();
  switch (operation) {
    case Operation::kFloor:
      return Wrap(Floor(*x));
    case Operation::kCeil:
      return Wrap(Ceil(*x));
    case Operation::kTrunc:
      return Wrap(Trunc(*x));
    default:
      break;
  }
  int64_t places = 0;
  if (arguments.size() > 1) {
    const Rational* wanted = AsRational(*arguments[1]);
    if (wanted == nullptr || !IsInteger(*wanted) || !wanted->get_num().fits_sint_p()) {
      return absl::InvalidArgumentError("round takes a small whole number of decimal places");
    }
    places = wanted->get_num().get_si();
  }
  return Wrap(Round(*x, places, exact));
}

Result DegreeRule(Operation operation, const Value& value, ExactContext exact) {
  if (IsZero(value)) return Wrap(Rational(0));
  if (operation == Operation::kRadians && AsRational(value) != nullptr) {
    return WrapPi(Divide(*AsRational(value), 180, exact));
  }
  if (operation == Operation::kDegrees && AsPi(value) != nullptr) {
    return Wrap(Multiply(*AsPi(value), 180, exact));
  }
  return Irrational();
}

Result Average(Arguments arguments, ExactContext exact) {
  const Result sum = Fold(Add, arguments, exact);
  if (!sum.ok() || !sum->has_value()) return sum;
  return Quotient(**sum, Rational(static_cast<unsigned long>(arguments.size())), exact);
}

}  // namespace

absl::StatusOr<std::optional<Value>> ApplyExact(Operation operation, Arguments arguments,
                                                ExactContext exact) {
  const auto argument = [&](size_t i) -> const Value& { return *arguments[i]; };
  switch (operation) {
    case Operation::kNumber:
    case Operation::kE:
      return Irrational();
    case Operation::kPi:
      return WrapPi(Rational(1));
    case Operation::kNegate:
      return Product(Rational(-1), argument(0), exact);
    case Operation::kAdd:
      return Linear(Add, argument(0), argument(1), exact);
    case Operation::kSubtract:
      return Linear(Subtract, argument(0), argument(1), exact);
    case Operation::kMultiply:
      return Product(argument(0), argument(1), exact);
    case Operation::kDivide:
      return Quotient(argument(0), argument(1), exact);
    case Operation::kModulo:
      if (IsZero(argument(1))) {
        return absl::InvalidArgumentError("the remainder of a division by zero");
      }
      return Linear(Modulo, argument(0), argument(1), exact);
    case Operation::kPower:
      return PowerRule(argument(0), argument(1), exact);
    case Operation::kPercent:
      return Quotient(argument(0), Rational(100), exact);
    case Operation::kPercentOff: {
      const Result rest = Linear(Subtract, Rational(1), argument(0), exact);
      if (!rest.ok() || !rest->has_value()) return rest;
      return Product(**rest, argument(1), exact);
    }
    case Operation::kFactorial:
      if (AsRational(argument(0)) == nullptr) {
        return absl::InvalidArgumentError("a factorial needs a whole number that is not negative");
      }
      return Wrap(Factorial(*AsRational(argument(0)), exact));
    case Operation::kRadians:
    case Operation::kDegrees:
      return DegreeRule(operation, argument(0), exact);
    case Operation::kSqrt:
      return RootRule(argument(0), 2, exact);
    case Operation::kCbrt:
      return RootRule(argument(0), 3, exact);
    case Operation::kAbs:
      if (AsRational(argument(0)) != nullptr) return Wrap(abs(*AsRational(argument(0))));
      if (AsPi(argument(0)) != nullptr) return WrapPi(abs(*AsPi(argument(0))));
      return Irrational();
    case Operation::kFloor:
    case Operation::kCeil:
    case Operation::kRound:
    case Operation::kTrunc:
      return RoundRule(operation, arguments, exact);
    case Operation::kMin:
      return Fold(Smaller, arguments, exact);
    case Operation::kMax:
      return Fold(Larger, arguments, exact);
    case Operation::kSum:
      return Fold(Add, arguments, exact);
    case Operation::kAverage:
      return Average(arguments, exact);
    case Operation::kGcd:
      return WholeNumbers(Gcd, arguments, exact);
    case Operation::kLcm:
      return WholeNumbers(Lcm, arguments, exact);
    case Operation::kLog:
      return LogarithmRule(argument(0), arguments.size() > 1 ? argument(1) : Value(Rational(10)),
                           exact);
    case Operation::kLog2:
      return LogarithmRule(argument(0), Rational(2), exact);
    case Operation::kLn:
      // To an irrational base, of which pi is one, only 1 has a rational logarithm.
      return LogarithmRule(argument(0), PiMultiple{1}, exact);
    case Operation::kExp:
      return IsZero(argument(0)) ? Wrap(Rational(1)) : Irrational();
    case Operation::kSin:
    case Operation::kCos:
    case Operation::kTan:
      return TrigonometricRule(operation, argument(0), exact);
    case Operation::kAsin:
    case Operation::kAcos:
    case Operation::kAtan:
      return InverseTrigonometricRule(operation, argument(0));
  }
  return Irrational();
}

}  // namespace octogate::gateway::calculator
