#ifndef OCTOGATE_GATEWAY_SQL_STATEMENT_CHECK_H_
#define OCTOGATE_GATEWAY_SQL_STATEMENT_CHECK_H_

#include <string_view>

#include "absl/status/status.h"

namespace octogate::gateway {

// What holds of statements for every database: INVALID_ARGUMENT for text that is empty, longer than
// kMaxSqlStatementBytes, or not UTF-8, and for U+0000, where databases would stop reading.
absl::Status CheckStatementText(std::string_view statement);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SQL_STATEMENT_CHECK_H_
