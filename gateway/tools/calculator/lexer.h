#ifndef OCTOGATE_GATEWAY_TOOLS_CALCULATOR_LEXER_H_
#define OCTOGATE_GATEWAY_TOOLS_CALCULATOR_LEXER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/tools/calculator/functions.h"

// Text to tokens. Operators come as ASCII (+ - * / ^ ** ! %), as Unicode (× ÷ − · √ ∛ π ² ³ °) or
// as words ("plus", "divided by", "to the power of", "squared", "square root of", "percent" ...).
//
// Commas. A comma between digits separates thousands when one to three digits stand before the
// first and exactly three after each ("1,000,000"), and no space is around it. Directly between the
// brackets of a function that takes several arguments a comma always separates arguments
// ("gcd(12,180)" has two). Where it could still be meant as thousands, because the group starts
// with a zero ("max(1,000)") or other commas there have a space ("max(1,234, 5)"), it is an error.

namespace octogate::gateway::calculator {

enum class TokenKind {
  kNumber,
  kPi,
  kE,
  kFunction,
  kPlus,
  kMinus,
  kTimes,
  kDivide,
  kModulo,
  kPower,
  kPercent,
  kFactorial,
  kDegrees,
  kSquared,
  kCubed,
  kOf,
  kOff,
  kAnd,
  kComma,
  kOpen,
  kClose,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int column = 0;
  std::string_view text;  // As written; points into the request.
  // kNumber: digits * 10^exponent, exactly. The exponent is saturated at +-10^9.
  std::string digits;
  int64_t exponent = 0;
  const FunctionInfo* function = nullptr;  // kFunction.
};

// Tokens of `expression`, which lies within `request` (columns count from the request's start); the
// last is kEnd. `request` is valid UTF-8. Errors are INVALID_ARGUMENT with the column.
absl::StatusOr<std::vector<Token>> Tokenize(std::string_view request, std::string_view expression);

}  // namespace octogate::gateway::calculator

#endif  // OCTOGATE_GATEWAY_TOOLS_CALCULATOR_LEXER_H_
