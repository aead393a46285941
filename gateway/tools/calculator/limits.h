#ifndef OCTOGATE_GATEWAY_TOOLS_CALCULATOR_LIMITS_H_
#define OCTOGATE_GATEWAY_TOOLS_CALCULATOR_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "gateway/tools/tool.h"

namespace octogate::gateway::calculator {

// GMP ends the process when it cannot allocate, so every size is bounded before it is computed.
struct Limits {
  size_t max_input_bytes = 4096;
  // Brackets, powers of powers, signs of signs.
  int max_nesting = 100;
  // Of the numerator and of the denominator of every intermediate result: some 79,000 digits.
  // Computing one may need twice as much for a moment.
  size_t max_bits = size_t{1} << 18;
  // Of the interval arithmetic behind irrational results.
  int max_precision_bits = 1 << 15;
  // Binary exponent of an irrational result.
  int64_t max_real_exponent = int64_t{1} << 30;
  // Bits read or written by all operations of one call, about a second's worth.
  int64_t max_work_bits = int64_t{1} << 26;
};

// Counts the work of one call and watches its deadline.
class WorkMeter {
 public:
  WorkMeter(const Limits& limits, const ToolContext& context)
      : context_(context), max_(limits.max_work_bits) {}

  // To be called before an operation on numbers of `bits` in total. RESOURCE_EXHAUSTED or
  // DEADLINE_EXCEEDED when it must not be started.
  absl::Status Charge(int64_t bits);

 private:
  const ToolContext& context_;
  const int64_t max_;
  int64_t spent_ = 0;
};

}  // namespace octogate::gateway::calculator

#endif  // OCTOGATE_GATEWAY_TOOLS_CALCULATOR_LIMITS_H_
