// SQLite's functions that take quadratic time, in linear time: one call of them cannot be
// interrupted.
#ifndef OCTOGATE_GATEWAY_SQL_SQLITE_FUNCTIONS_H_
#define OCTOGATE_GATEWAY_SQL_SQLITE_FUNCTIONS_H_

#include "absl/status/status.h"

struct sqlite3;

namespace octogate::gateway {

// Replaces instr, replace, and trim, ltrim and rtrim with two arguments, on this connection. They
// return what SQLite's own return, but that the second argument of trim must be valid UTF-8.
absl::Status ReplaceQuadraticFunctions(sqlite3* database);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SQL_SQLITE_FUNCTIONS_H_
