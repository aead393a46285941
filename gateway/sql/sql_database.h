// Databases that run statements nobody has looked at, such as a model's: reading only, within
// limits, and only what the caller may read.
//
// The rules are kept by the database's own engine, never by looking for words in the statement:
// SQLite's authorizer (sqlite_database.h), and a read-only transaction with a cursor under a role
// without privileges (postgresql_database.h). Whatever stands in a statement is data to this code.
#ifndef OCTOGATE_GATEWAY_SQL_SQL_DATABASE_H_
#define OCTOGATE_GATEWAY_SQL_SQL_DATABASE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/cancellation.h"

namespace octogate::gateway {

// A value of binary type: only its size leaves the database.
struct SqlBlob {
  uint64_t bytes = 0;
  bool operator==(const SqlBlob&) const = default;
};

// NULL, integer, real, text, blob. Text is valid UTF-8 (bytes that were not became "?") and may
// hold any character, U+0000 too. Reals may be infinite or, from PostgreSQL, not a number.
using SqlValue = std::variant<std::monostate, int64_t, double, std::string, SqlBlob>;

enum class SqlTruncation {
  kNone,
  kRows,   // there are more than max_rows
  kBytes,  // the next row would have passed max_bytes
};

struct SqlResult {
  std::vector<std::string> columns;  // names, valid UTF-8; they may repeat and be empty
  std::vector<std::vector<SqlValue>> rows;
  SqlTruncation truncation = SqlTruncation::kNone;
};

// What a caller may read. Names in any case of ASCII letters, without quotation marks.
struct SqlTablePermission {
  std::string table;
  std::optional<std::vector<std::string>> columns;  // nullopt: all of them
};

struct SqlCallOptions {
  // The only tables, views and columns that the statement may use anywhere: in its results, its
  // conditions, its order, in subqueries and in what its views read. nullopt: everything. A view
  // gives no right to the tables it reads: both must be permitted.
  std::optional<std::vector<SqlTablePermission>> permitted;
  size_t max_rows = 1000;
  // Of all values and of the columns' names together: text by its bytes, everything else as 8.
  size_t max_bytes = size_t{1} << 20;
  // The database's own limit holds where that is earlier.
  absl::Time deadline = absl::InfiniteFuture();
  std::shared_ptr<Cancellation> cancellation;  // null: is never cancelled
};

// Thread-safe: calls from any number of threads share a bounded set of connections, each used by
// one call at a time; a call without one waits until its deadline. Connections are opened when
// calls need them, and again where the database has come back.
//
// Errors of both calls:
//   INVALID_ARGUMENT    the statement is wrong, or is not one statement: the database's own message
//                       and, as far as known, the byte offset in the statement ("at offset 7").
//                       Made for correcting the statement with.
//   PERMISSION_DENIED   the statement is well-formed but may not do this, e.g. "table salaries",
//                       "column people.ssn", "function load_extension", "ATTACH"
//   FAILED_PRECONDITION the database or its role cannot keep a rule that was asked for
//   DEADLINE_EXCEEDED, CANCELLED
//   RESOURCE_EXHAUSTED  the statement takes more memory than one call may have, or makes a value
//   that
//                       is too long
//   NOT_FOUND           there is no such database
//   UNAVAILABLE         the database cannot be reached, or is locked, at present
//   DATA_LOSS           the database is damaged
// No message holds a password, or a value of the database beyond those that the database's own
// message quotes from what this caller may read.
class SqlDatabase {
 public:
  virtual ~SqlDatabase() = default;

  // Whether Execute would run the statement: the database compiles it under the same rules. No rows
  // are read.
  absl::Status Check(std::string_view statement, const SqlCallOptions& options);

  // Runs one statement that returns rows (SELECT, WITH … SELECT, VALUES). A semicolon and comments
  // may follow it. There are no parameters: everything is in the text.
  absl::StatusOr<SqlResult> Execute(std::string_view statement, const SqlCallOptions& options);

 protected:
  // `max_time`: of one call, waiting for a connection included.
  explicit SqlDatabase(absl::Duration max_time) : max_time_(max_time) {}

 private:
  // Compiles the statement and, unless `result` is null, runs it. The statement is UTF-8 without
  // U+0000, not empty and not too long; the call's deadline is within max_time.
  virtual absl::Status Run(std::string_view statement, const SqlCallOptions& call,
                           SqlResult* result) = 0;
  absl::Status RunInTime(std::string_view statement, const SqlCallOptions& options,
                         SqlResult* result);

  const absl::Duration max_time_;
};

// A statement that is longer is INVALID_ARGUMENT.
inline constexpr size_t kMaxSqlStatementBytes = 64 << 10;

// For databases: what the names of a result's columns take of `max_bytes`, RESOURCE_EXHAUSTED where
// that is not enough for them.
absl::StatusOr<size_t> BytesOfNames(const SqlResult& result, size_t max_bytes);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SQL_SQL_DATABASE_H_
