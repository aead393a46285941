#ifndef OCTOGATE_COMMON_STATUS_H_
#define OCTOGATE_COMMON_STATUS_H_

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace octogate {

// `status` with "`where`: " before its message; code and payloads are kept. OK stays OK.
absl::Status Annotate(const absl::Status& status, std::string_view where);

}  // namespace octogate

// Returns from the function with the status of `expression` unless it is OK.
#define OCTOGATE_RETURN_IF_ERROR(expression)                                  \
  do {                                                                        \
    if (absl::Status octogate_status = (expression); !octogate_status.ok()) { \
      return octogate_status;                                                 \
    }                                                                         \
  } while (false)

#define OCTOGATE_STATUS_CONCAT_INNER(a, b) a##b
#define OCTOGATE_STATUS_CONCAT(a, b) OCTOGATE_STATUS_CONCAT_INNER(a, b)

// Declares or assigns `target` from a StatusOr, or returns its status from the function.
#define OCTOGATE_ASSIGN_OR_RETURN(target, expression)                                           \
  OCTOGATE_ASSIGN_OR_RETURN_INNER(OCTOGATE_STATUS_CONCAT(octogate_statusor_, __LINE__), target, \
                                  expression)
#define OCTOGATE_ASSIGN_OR_RETURN_INNER(statusor, target, expression) \
  auto statusor = (expression);                                       \
  if (!statusor.ok()) return statusor.status();                       \
  target = *std::move(statusor)

#endif  // OCTOGATE_COMMON_STATUS_H_
