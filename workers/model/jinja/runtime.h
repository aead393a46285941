// One rendering's account: its limits, and its first error.
#ifndef OCTOGATE_WORKERS_MODEL_JINJA_RUNTIME_H_
#define OCTOGATE_WORKERS_MODEL_JINJA_RUNTIME_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "workers/model/jinja/value.h"

namespace octogate::workers::jinja {

struct Limits {
  int64_t max_steps = 0;
  int max_depth = 0;
  size_t max_output_bytes = 0;
  size_t max_allocated_bytes = 0;
};

// Containers nested deeper than this are refused, which bounds the recursion of
// everything that walks a value, destructors included.
inline constexpr int kMaxValueDepth = 96;

// The first failure sticks. After it every operation returns an undefined value
// at once, so callers may go on without looking, and loops look at failed().
class Runtime {
 public:
  Runtime(const Limits& limits, absl::Time now, absl::TimeZone time_zone)
      : limits_(limits), now_(now), time_zone_(time_zone) {}

  bool failed() const { return !status_.ok(); }
  const absl::Status& status() const { return status_; }
  const Limits& limits() const { return limits_; }
  absl::Time now() const { return now_; }
  absl::TimeZone time_zone() const { return time_zone_; }

  // The template's line that errors name.
  void set_line(int line) { line_ = line; }
  int line() const { return line_; }

  // Always an undefined value, so that a caller can return it.
  Value Fail(std::string_view message);            // INVALID_ARGUMENT, with the line
  Value RaiseException(std::string_view message);  // the template's own refusal
  Value Exhaust(std::string_view message);         // RESOURCE_EXHAUSTED

  // Accounts for work; false once a limit is reached or anything failed.
  bool Step(size_t count = 1);
  bool Allocate(size_t bytes);
  // Work on so many bytes without keeping them.
  bool Scan(size_t bytes) { return Step(bytes / 64 + 1); }

  // Accounted constructors.
  Value MakeText(std::string text, bool is_markup = false);
  Value MakeSequence(Kind kind, std::vector<Value> items);
  Value MakeDict(Dict dict);

 private:
  const Limits limits_;
  const absl::Time now_;
  const absl::TimeZone time_zone_;
  absl::Status status_;
  int line_ = 0;
  int64_t steps_ = 0;
  size_t allocated_ = 0;
};

// The arguments of a call matched to parameter names: a value per name, null
// where not given. Fails for too many, unknown or repeated ones, and where one
// of the first `num_required` is missing.
std::optional<std::vector<const Value*>> BindArguments(
    Runtime& runtime, std::string_view function, const Arguments& arguments,
    std::initializer_list<std::string_view> names, size_t num_required);

}  // namespace octogate::workers::jinja

#endif  // OCTOGATE_WORKERS_MODEL_JINJA_RUNTIME_H_
