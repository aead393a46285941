// Two macros that pass an error on to the caller; everything else about errors is absl::Status.
#ifndef OCTOGATE_COMMON_STATUS_MACROS_H_
#define OCTOGATE_COMMON_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define OCTOGATE_STATUS_JOIN_INNER(a, b) a##b
#define OCTOGATE_STATUS_JOIN(a, b) OCTOGATE_STATUS_JOIN_INNER(a, b)

// Returns the status of `expression` from the enclosing function unless it is OK.
#define OCTOGATE_RETURN_IF_ERROR(expression)                                  \
  do {                                                                        \
    if (absl::Status octogate_status = (expression); !octogate_status.ok()) { \
      return octogate_status;                                                 \
    }                                                                         \
  } while (false)

// Assigns the value of a StatusOr to `target` (which may declare a variable), or returns its
// status from the enclosing function.
#define OCTOGATE_ASSIGN_OR_RETURN(target, expression)                                          \
  OCTOGATE_ASSIGN_OR_RETURN_INNER(OCTOGATE_STATUS_JOIN(octogate_status_or_, __LINE__), target, \
                                  expression)
#define OCTOGATE_ASSIGN_OR_RETURN_INNER(result, target, expression) \
  auto result = (expression);                                       \
  if (!result.ok()) {                                               \
    return std::move(result).status();                              \
  }                                                                 \
  target = std::move(result).value()

#endif  // OCTOGATE_COMMON_STATUS_MACROS_H_
