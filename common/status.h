#ifndef OCTOGATE_COMMON_STATUS_H_
#define OCTOGATE_COMMON_STATUS_H_

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/status_macros.h"  // IWYU pragma: export

namespace octogate {

// `status` with "`where`: " before its message; code and payloads are kept. OK stays OK.
absl::Status Annotate(const absl::Status& status, std::string_view where);

}  // namespace octogate

#endif  // OCTOGATE_COMMON_STATUS_H_
