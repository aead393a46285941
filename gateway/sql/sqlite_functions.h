// SQLite's functions that take quadratic time, in linear or bounded time: one call of them cannot
// be interrupted.
#ifndef OCTOGATE_GATEWAY_SQL_SQLITE_FUNCTIONS_H_
#define OCTOGATE_GATEWAY_SQL_SQLITE_FUNCTIONS_H_

#include "absl/status/status.h"

struct sqlite3;

namespace octogate::gateway {

// Replaces instr, replace, LIKE, GLOB, and trim, ltrim and rtrim with two arguments, on this
// connection. They return what SQLite's own return, but that the second argument of trim must be
// valid UTF-8, that ESCAPE takes an ASCII character other than % and _, and that LIKE and GLOB
// refuse texts too long for their pattern: 64 Mi places times bytes of the pattern.
absl::Status ReplaceQuadraticFunctions(sqlite3* database);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SQL_SQLITE_FUNCTIONS_H_
