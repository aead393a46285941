#include "gateway/tools/clock/clock.h"

#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gateway/tools/clock/request.h"
#include "gateway/tools/clock/zones.h"

namespace octogate::gateway {
namespace clock {
namespace {

constexpr std::string_view kName = "clock";
constexpr std::string_view kDescription =
    "Answers questions about dates and times: the time in a city, conversions between time zones, "
    "days until or between dates, dates some time from now, weekdays, week numbers, Unix time.";

class ClockTool final : public Tool {
 public:
  explicit ClockTool(std::optional<Zone> zone) : zone_(std::move(zone)) {}

  absl::StatusOr<std::string> Run(std::string_view argument,
                                  const ToolContext& context) const override {
    const absl::Time now = context.now();
    if (now >= context.deadline) {
      return absl::DeadlineExceededError("the deadline passed before the request was read");
    }
    const Zone zone = zone_.value_or(
        Zone{context.default_time_zone, std::string(context.default_time_zone.name())});
    absl::StatusOr<std::string> answer = AnswerRequest(argument, {now, zone});
    if (answer.ok() && answer->size() > context.max_output_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "the answer has ", answer->size(), " bytes; the limit is ", context.max_output_bytes));
    }
    return answer;
  }

  std::string_view name() const override { return kName; }
  std::string_view description() const override { return kDescription; }

 private:
  const std::optional<Zone> zone_;
};

absl::StatusOr<std::unique_ptr<Tool>> Make(const ToolParameters& parameters) {
  std::optional<Zone> zone;
  if (const auto wanted = parameters.find("time_zone"); wanted != parameters.end()) {
    absl::StatusOr<Zone> found = FindZone(wanted->second);
    if (!found.ok()) {
      return absl::Status(
          found.status().code(),
          absl::StrCat("tool \"clock\": parameter \"time_zone\": ", found.status().message()));
    }
    zone = *std::move(found);
  }
  return std::make_unique<ClockTool>(std::move(zone));
}

}  // namespace
}  // namespace clock

ToolInfo ClockToolInfo() {
  return {.name = std::string(clock::kName),
          .description = std::string(clock::kDescription),
          .parameters = {{.name = "time_zone",
                          .description = "zone of times that name none, e.g. Europe/Berlin; "
                                         "default: the gateway's"}},
          .make = clock::Make};
}

}  // namespace octogate::gateway
