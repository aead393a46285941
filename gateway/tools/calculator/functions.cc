#include "gateway/tools/calculator/functions.h"

#include "absl/strings/str_join.h"

namespace octogate::gateway::calculator {
namespace {

constexpr FunctionInfo kFunctions[] = {
    {"abs", Operation::kAbs, 1, 1},
    {"acos", Operation::kAcos, 1, 1},
    {"asin", Operation::kAsin, 1, 1},
    {"atan", Operation::kAtan, 1, 1},
    {"average", Operation::kAverage, 1, kAnyNumber},
    {"avg", Operation::kAverage, 1, kAnyNumber},
    {"cbrt", Operation::kCbrt, 1, 1},
    {"ceil", Operation::kCeil, 1, 1},
    {"cos", Operation::kCos, 1, 1},
    {"deg", Operation::kRadians, 1, 1},
    {"exp", Operation::kExp, 1, 1},
    {"fact", Operation::kFactorial, 1, 1},
    {"factorial", Operation::kFactorial, 1, 1},
    {"floor", Operation::kFloor, 1, 1},
    {"gcd", Operation::kGcd, 1, kAnyNumber},
    {"lcm", Operation::kLcm, 1, kAnyNumber},
    {"ln", Operation::kLn, 1, 1},
    {"log", Operation::kLog, 1, 2},
    {"log10", Operation::kLog, 1, 1},
    {"log2", Operation::kLog2, 1, 1},
    {"max", Operation::kMax, 1, kAnyNumber},
    {"mean", Operation::kAverage, 1, kAnyNumber},
    {"min", Operation::kMin, 1, kAnyNumber},
    {"mod", Operation::kModulo, 2, 2},
    {"pow", Operation::kPower, 2, 2},
    {"round", Operation::kRound, 1, 2},
    {"sin", Operation::kSin, 1, 1},
    {"sqrt", Operation::kSqrt, 1, 1},
    {"sum", Operation::kSum, 1, kAnyNumber},
    {"tan", Operation::kTan, 1, 1},
    {"todeg", Operation::kDegrees, 1, 1},
    {"trunc", Operation::kTrunc, 1, 1},
};

}  // namespace

const FunctionInfo* FindFunction(std::string_view name) {
  for (const FunctionInfo& function : kFunctions) {
    if (function.name == name) return &function;
  }
  return nullptr;
}

std::string FunctionNames() {
  return absl::StrJoin(kFunctions, ", ", [](std::string* out, const FunctionInfo& function) {
    out->append(function.name);
  });
}

}  // namespace octogate::gateway::calculator
