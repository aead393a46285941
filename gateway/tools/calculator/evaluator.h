#ifndef OCTOGATE_GATEWAY_TOOLS_CALCULATOR_EVALUATOR_H_
#define OCTOGATE_GATEWAY_TOOLS_CALCULATOR_EVALUATOR_H_

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/tools/calculator/parser.h"
#include "gateway/tools/calculator/value.h"

namespace octogate::gateway::calculator {

// Evaluates one expression, as often as more precision is needed; exact parts are computed once.
// Without recursion: nodes come in evaluation order.
class Evaluator {
 public:
  // `expression`, `limits` and `meter` outlive this.
  Evaluator(const Expression& expression, const Limits& limits, WorkMeter& meter)
      : expression_(expression), limits_(limits), meter_(meter), values_(expression.size()) {}

  // With intervals of `precision` bits. ABORTED when they are too wide to decide something; other
  // errors are final and carry their column.
  absl::StatusOr<Value> Run(mpfr_prec_t precision);

 private:
  absl::StatusOr<Value> Evaluate(const Node& node, RealContext real) const;

  const Expression& expression_;
  const Limits& limits_;
  WorkMeter& meter_;
  std::vector<std::optional<Value>> values_;  // By node.
};

}  // namespace octogate::gateway::calculator

#endif  // OCTOGATE_GATEWAY_TOOLS_CALCULATOR_EVALUATOR_H_
