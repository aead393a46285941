#include "gateway/tools/calculator/calculator.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gateway/tools/calculator/evaluator.h"
#include "gateway/tools/calculator/format.h"
#include "gateway/tools/request_text.h"

namespace octogate::gateway {
namespace calculator {
namespace {

constexpr std::string_view kName = "calculator";
constexpr std::string_view kDescription =
    "Computes arithmetic exactly: fractions, percentages, powers, roots, logarithms, trigonometry, "
    "factorials, greatest common divisors, numbers of any size.";
constexpr int kDefaultDigits = 20;
constexpr int kMaxDigits = 1000;

// MPFR keeps constants such as pi per thread; a thread that ends would leak them.
struct FreeMpfrCache {
  FreeMpfrCache() = default;
  FreeMpfrCache(const FreeMpfrCache&) = delete;
  FreeMpfrCache& operator=(const FreeMpfrCache&) = delete;
  ~FreeMpfrCache() { mpfr_free_cache2(MPFR_FREE_LOCAL_CACHE); }
};

// The text of the result when `precision` bits suffice for it.
absl::StatusOr<std::optional<std::string>> TryPrecision(Evaluator& evaluator, mpfr_prec_t precision,
                                                        const NumberStyle& style,
                                                        const Limits& limits, WorkMeter& meter) {
  const bool last = precision >= limits.max_precision_bits;
  const absl::StatusOr<Value> value = evaluator.Run(precision);
  if (absl::IsAborted(value.status())) {
    if (!last) return std::nullopt;
    return absl::ResourceExhaustedError(absl::StrCat(value.status().message(),
                                                     " cannot be decided within the limit of ",
                                                     limits.max_precision_bits, " bits"));
  }
  if (!value.ok()) return value.status();
  if (const auto* rational = std::get_if<Rational>(&*value)) {
    absl::StatusOr<std::string> text = FormatRational(*rational, style, {limits, meter});
    if (!text.ok()) return text.status();
    return std::optional<std::string>(*std::move(text));
  }
  const absl::StatusOr<Interval> interval = ToInterval(*value, {limits, meter, precision});
  if (!interval.ok()) return interval.status();
  std::optional<std::string> text = FormatInterval(*interval, style.digits);
  if (text.has_value() || !last) return text;
  text = FormatUndecided(*interval, style.digits);
  if (text.has_value()) return text;
  return absl::ResourceExhaustedError(
      absl::StrCat("no digit of the result is certain within the limit of ",
                   limits.max_precision_bits, " bits"));
}

class CalculatorTool final : public Tool {
 public:
  explicit CalculatorTool(int digits) : digits_(digits) {}

  absl::StatusOr<std::string> Run(std::string_view argument,
                                  const ToolContext& context) const override {
    const Limits limits;
    const absl::StatusOr<Expression> expression = Parse(argument, limits);
    if (!expression.ok()) return expression.status();
    const FreeMpfrCache free_cache;
    WorkMeter meter(limits, context);
    Evaluator evaluator(*expression, limits, meter);
    const NumberStyle style{.digits = digits_, .max_characters = context.max_output_bytes};
    constexpr mpfr_prec_t kGuardBits = 64;
    constexpr mpfr_prec_t kBitsPerDigit = 4;
    for (mpfr_prec_t precision = digits_ * kBitsPerDigit + kGuardBits;; precision *= 2) {
      precision = std::min<mpfr_prec_t>(precision, limits.max_precision_bits);
      absl::StatusOr<std::optional<std::string>> text =
          TryPrecision(evaluator, precision, style, limits, meter);
      if (!text.ok()) return text.status();
      if (!text->has_value()) continue;
      if ((*text)->size() > context.max_output_bytes) {
        return absl::ResourceExhaustedError(absl::StrCat(
            "the answer has ", (*text)->size(), " bytes; the limit is ", context.max_output_bytes));
      }
      return **std::move(text);
    }
  }

  std::string_view name() const override { return kName; }
  std::string_view description() const override { return kDescription; }

 private:
  const int digits_;
};

absl::StatusOr<std::unique_ptr<Tool>> Make(const ToolParameters& parameters) {
  int digits = kDefaultDigits;
  if (const auto wanted = parameters.find("digits"); wanted != parameters.end()) {
    if (!absl::SimpleAtoi(wanted->second, &digits) || digits < 1 || digits > kMaxDigits) {
      return absl::InvalidArgumentError(
          absl::StrCat("tool \"calculator\": parameter \"digits\" is ", Quoted(wanted->second),
                       "; it must be a whole number from 1 to ", kMaxDigits));
    }
  }
  return std::make_unique<CalculatorTool>(digits);
}

}  // namespace
}  // namespace calculator

ToolInfo CalculatorToolInfo() {
  return {.name = std::string(calculator::kName),
          .description = std::string(calculator::kDescription),
          .parameters = {{.name = "digits",
                          .description = "significant digits of rounded results, 1 to 1000; "
                                         "default 20"}},
          .make = calculator::Make};
}

}  // namespace octogate::gateway
