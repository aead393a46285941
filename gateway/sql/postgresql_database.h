// PostgreSQL servers behind SqlDatabase, through libpq.
//
// A statement runs as the query of a cursor (DECLARE … CURSOR FOR statement), sent by the extended
// protocol, in a transaction that is read-only and is rolled back: PostgreSQL's own parser refuses
// there what is no SELECT, VALUES or TABLE, what is more than one statement, and WITH parts that
// write. statement_timeout is set for the transaction; at the deadline and when it is cancelled the
// connection is closed, which PostgreSQL 14 and newer notice within a second. Afterwards the
// session is reset (DISCARD ALL).
//
// What a SELECT may read and which functions it may call is decided by the role: this code adds
// nothing to its rights and takes little away. Therefore
//   - roles that are superusers, or members of one or of pg_read_server_files,
//     pg_write_server_files or pg_execute_server_program, are refused (FAILED_PRECONDITION): with
//     them a SELECT reads files and runs programs. Make a role of its own:
//       CREATE ROLE octogate LOGIN PASSWORD '…'; GRANT SELECT ON … TO octogate;
//   - restrictions of one caller (SqlCallOptions::permitted) are FAILED_PRECONDITION: give each
//   group
//     of callers a role, with GRANT SELECT (columns) ON …
//   - functions with effects beyond the transaction stay callable where the role may call them:
//   ending
//     the same role's sessions (pg_terminate_backend), dblink and foreign tables, user-defined
//     functions in untrusted languages. REVOKE EXECUTE on those that the server has.
//
// A row comes over the wire only where its values fit into max_bytes; the server computes that.
// Values are: integer types as integers; float4, float8 and numerics of at most 15 digits as reals;
// bytea as blobs; everything else (longer numerics, booleans, dates, JSON, arrays) as PostgreSQL's
// text. Comments may follow a statement, but not behind its semicolon.
#ifndef OCTOGATE_GATEWAY_SQL_POSTGRESQL_DATABASE_H_
#define OCTOGATE_GATEWAY_SQL_POSTGRESQL_DATABASE_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/sql/sql_database.h"

namespace octogate::gateway {

struct PostgresqlOptions {
  // As libpq takes it: "host=… dbname=… user=…" or "postgresql://…". Host names are looked up
  // without a limit in time. No error repeats it.
  std::string connection;
  size_t max_connections = 8;
  absl::Duration max_time = absl::Seconds(30);  // of one call, waiting and connecting included
};

// Does not connect: the calls do. INVALID_ARGUMENT for a connection string that libpq does not
// understand and for options out of range.
absl::StatusOr<std::unique_ptr<SqlDatabase>> OpenPostgresqlDatabase(
    const PostgresqlOptions& options);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SQL_POSTGRESQL_DATABASE_H_
