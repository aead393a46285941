#ifndef OCTOGATE_GATEWAY_TOOLS_CALCULATOR_FUNCTIONS_H_
#define OCTOGATE_GATEWAY_TOOLS_CALCULATOR_FUNCTIONS_H_

#include <string>
#include <string_view>

namespace octogate::gateway::calculator {

// Everything an expression can do, operators and named functions alike.
enum class Operation {
  kNumber,
  kPi,
  kE,
  kNegate,
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kModulo,  // a - b * floor(a / b): the sign of b, as in Python.
  kPower,   // 0^0 is 1, as in IEEE 754.
  kPercent,
  kPercentOff,  // p off x: x * (1 - p).
  kFactorial,
  kRadians,  // Degrees to radians.
  kDegrees,  // Radians to degrees.
  kSqrt,
  kCbrt,
  kAbs,
  kFloor,
  kCeil,
  kRound,  // Half away from zero; an optional number of decimal places, which may be negative.
  kTrunc,
  kMin,
  kMax,
  kSum,
  kAverage,
  kGcd,
  kLcm,
  kLog,  // Base 10, or the base given second.
  kLn,
  kLog2,
  kExp,
  kSin,
  kCos,
  kTan,
  kAsin,
  kAcos,
  kAtan,
};

struct FunctionInfo {
  std::string_view name;
  Operation operation;
  int min_arguments;
  int max_arguments;  // kAnyNumber: no limit but the input's length.
};

inline constexpr int kAnyNumber = 1 << 20;

// nullptr when there is no function of that (lower-case) name. The result lives for ever.
const FunctionInfo* FindFunction(std::string_view name);

// "abs, acos, ...", for messages.
std::string FunctionNames();

}  // namespace octogate::gateway::calculator

#endif  // OCTOGATE_GATEWAY_TOOLS_CALCULATOR_FUNCTIONS_H_
