#ifndef OCTOGATE_COMMON_STATUS_H_
#define OCTOGATE_COMMON_STATUS_H_

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/status_macros.h"  // IWYU pragma: export

namespace octogate {

// `status` with "`where`: " before its message; code and payloads are kept. OK stays OK.
absl::Status Annotate(const absl::Status& status, std::string_view where);

// No peer can make a caller wait longer than this.
inline constexpr absl::Duration kMaxRetryAfter = absl::Minutes(10);

// `status` with the hint that another attempt has a chance after `retry_after`: rounded up to
// milliseconds, at least one, at most kMaxRetryAfter. For refusals that time will cure.
absl::Status WithRetryAfter(absl::Status status, absl::Duration retry_after);

// The hint. Zero: none, trying again is of no use.
absl::Duration RetryAfter(const absl::Status& status);

}  // namespace octogate

#endif  // OCTOGATE_COMMON_STATUS_H_
