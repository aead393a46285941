#include "common/status.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace octogate {
namespace {

// Payload: a decimal number of milliseconds.
constexpr char kRetryAfterUrl[] = "octogate/retry-after-ms";

}  // namespace

absl::Status Annotate(const absl::Status& status, std::string_view where) {
  if (status.ok()) return status;
  absl::Status annotated(status.code(), absl::StrCat(ToAbsl(where), ": ", status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
    annotated.SetPayload(url, payload);
  });
  return annotated;
}

absl::Status WithRetryAfter(absl::Status status, absl::Duration retry_after) {
  const absl::Duration hint = std::clamp(absl::Ceil(retry_after, absl::Milliseconds(1)),
                                         absl::Milliseconds(1), kMaxRetryAfter);
  status.SetPayload(kRetryAfterUrl, absl::Cord(absl::StrCat(absl::ToInt64Milliseconds(hint))));
  return status;
}

absl::Duration RetryAfter(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kRetryAfterUrl);
  int64_t millis = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &millis)) {
    return absl::ZeroDuration();
  }
  return absl::Milliseconds(millis);
}

}  // namespace octogate
