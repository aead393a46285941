#ifndef OCTOGATE_GATEWAY_TOOLS_CALCULATOR_PARSER_H_
#define OCTOGATE_GATEWAY_TOOLS_CALCULATOR_PARSER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/tools/calculator/functions.h"
#include "gateway/tools/calculator/limits.h"

// Precedence, tightest first:
//   postfix ! % ° squared cubed;  ^ (right associative);  unary + -;
//   * / mod, "% of", "% off" and products without a sign (2pi, 3(4+5));  + -.
//
// % after a value divides it by 100; directly before a number, name or bracket it is the remainder
// (10 % 3). What people read in two ways is refused, with the ways to write it:
//   200 + 10%     (220, or 200.1?)          6/2(1+2), 1/2pi   (what is divided by?)
//   sqrt 2^2      (the root of what?)       3!!               (twice, or the double factorial?)

namespace octogate::gateway::calculator {

struct Node {
  Operation operation = Operation::kNumber;
  int column = 0;              // Of the operator or name, for messages.
  std::vector<int> arguments;  // Indexes of earlier nodes.
  // kNumber: digits * 10^exponent.
  std::string digits;
  int64_t exponent = 0;
};

// In evaluation order: a node comes after its arguments, and the last is the result.
using Expression = std::vector<Node>;

// Parses a request, the phrases around it taken off ("what is ...?"). INVALID_ARGUMENT with the
// column; RESOURCE_EXHAUSTED when it is nested too deeply.
absl::StatusOr<Expression> Parse(std::string_view request, const Limits& limits);

}  // namespace octogate::gateway::calculator

#endif  // OCTOGATE_GATEWAY_TOOLS_CALCULATOR_PARSER_H_
