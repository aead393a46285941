#ifndef OCTOGATE_GATEWAY_TOOLS_CALCULATOR_FORMAT_H_
#define OCTOGATE_GATEWAY_TOOLS_CALCULATOR_FORMAT_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "gateway/tools/calculator/exact.h"
#include "gateway/tools/calculator/interval.h"

// Numbers as text. Exact numbers are printed exactly; whatever was rounded follows "≈" and has at
// most `digits` significant digits, correctly rounded to nearest, zeros at the end left off.

namespace octogate::gateway::calculator {

struct NumberStyle {
  int digits = 20;
  // An exact number that would be longer is rounded instead, which the answer says.
  size_t max_characters = size_t{64} << 10;
};

// Whole: "42". Terminating: "0.125", "1e-300". Else fraction and decimal: "1/3 ≈ 0.3333…" (the
// fraction only while it is of a readable length).
absl::StatusOr<std::string> FormatRational(const Rational& value, const NumberStyle& style,
                                           ExactContext exact);

// "≈ 1.4142…"; nullopt when the ends of `value` do not agree in `digits` digits.
std::optional<std::string> FormatInterval(const Interval& value, int digits);

// What can be said of an interval that is as narrow as the limits allow and still does not agree in
// `digits` digits: fewer digits, or how close to 0 it is.
std::optional<std::string> FormatUndecided(const Interval& value, int digits);

}  // namespace octogate::gateway::calculator

#endif  // OCTOGATE_GATEWAY_TOOLS_CALCULATOR_FORMAT_H_
