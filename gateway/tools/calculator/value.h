#ifndef OCTOGATE_GATEWAY_TOOLS_CALCULATOR_VALUE_H_
#define OCTOGATE_GATEWAY_TOOLS_CALCULATOR_VALUE_H_

#include <optional>
#include <variant>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gateway/tools/calculator/exact.h"
#include "gateway/tools/calculator/functions.h"
#include "gateway/tools/calculator/interval.h"

// What an expression's parts are worth. Results stay rational, or rational multiples of pi, as long
// as that is exact; anything else is an interval.

namespace octogate::gateway::calculator {

struct PiMultiple {
  Rational factor;  // Never 0: that is the rational number 0.
};

using Value = std::variant<Rational, PiMultiple, Interval>;

absl::StatusOr<Interval> ToInterval(const Value& value, RealContext real);

// The exact result of an operation other than kNumber; nullopt when it is irrational or its
// operands are intervals that no rule covers. Errors are about the operands (INVALID_ARGUMENT) or
// limits.
absl::StatusOr<std::optional<Value>> ApplyExact(Operation operation,
                                                absl::Span<const Value* const> arguments,
                                                ExactContext exact);

// The result of an operation that ApplyExact does not cover. ABORTED when more precision may decide
// it.
absl::StatusOr<Value> ApplyReal(Operation operation, absl::Span<const Value* const> arguments,
                                RealContext real);

}  // namespace octogate::gateway::calculator

#endif  // OCTOGATE_GATEWAY_TOOLS_CALCULATOR_VALUE_H_
