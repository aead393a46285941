#include "gateway/tools/calculator/evaluator.h"

#include <utility>

#include "absl/status/status.h"
#include "gateway/tools/request_text.h"

namespace octogate::gateway::calculator {

absl::StatusOr<Value> Evaluator::Evaluate(const Node& node, RealContext real) const {
  const ExactContext exact{limits_, meter_};
  if (node.operation == Operation::kNumber) {
    absl::StatusOr<Rational> number = FromDecimal(node.digits, node.exponent, exact);
    if (!number.ok()) return number.status();
    return Value(*std::move(number));
  }
  std::vector<const Value*> arguments;
  arguments.reserve(node.arguments.size());
  for (const int argument : node.arguments) {
    arguments.push_back(&*values_[static_cast<size_t>(argument)]);
  }
  absl::StatusOr<std::optional<Value>> value = ApplyExact(node.operation, arguments, exact);
  if (!value.ok()) return value.status();
  if (value->has_value()) return **std::move(value);
  return ApplyReal(node.operation, arguments, real);
}

absl::StatusOr<Value> Evaluator::Run(mpfr_prec_t precision) {
  const RealContext real{limits_, meter_, precision};
  for (size_t i = 0; i < expression_.size(); ++i) {
    if (values_[i].has_value() && !std::holds_alternative<Interval>(*values_[i])) continue;
    absl::StatusOr<Value> value = Evaluate(expression_[i], real);
    if (!value.ok()) return AtColumn(expression_[i].column, value.status());
    values_[i] = *std::move(value);
  }
  return *values_.back();
}

}  // namespace octogate::gateway::calculator
