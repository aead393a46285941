// SQLite files behind SqlDatabase.
//
// What a statement can do is decided by SQLite's authorizer, an allow-list: SELECT, recursive
// queries, reading tables, and the functions that sqlite_authorizer.h lists. Everything else is
// refused while the statement is compiled: writing, ATTACH, VACUUM INTO, PRAGMA and the pragma_
// tables, transactions, EXPLAIN, extensions, and every table whose name begins with sqlite_ (the
// schema is a catalog's business; sqlite_stat4 holds samples of values). The file is opened
// read-only besides, and the connection is query_only.
//
// Restricted callers (SqlCallOptions::permitted). The authorizer is told every column that a
// statement names, in views and common table expressions, too. It is not told which columns NATURAL
// and USING joins compare: both are refused to them, in statements and in the views these mention.
// rowid is a column: it is refused unless it is permitted by that name or is an alias of a
// permitted INTEGER PRIMARY KEY. A generated column is one of its own: whoever may read it may read
// it, whatever it is computed from. count(*) needs the table alone. An error says whether a table
// or column of some name exists; never a value of it.
//
// Views run, with the functions of the allow-list. Virtual tables do not (full-text and R-tree
// indexes: their code reads the file's hidden tables, and has been attacked through those), except
// the table-valued functions json_each and json_tree. Text in double quotes is a name, never a
// string.
//
// One call takes at most max_memory_bytes from SQLite's allocator, sorting and temporary tables
// included, which are never written to disk; beside it are the rows that it returns
// (SqlCallOptions::max_bytes). The deadline and the cancellation are looked at about every
// 100 instructions of SQLite's virtual machine, in loops; a statement has at most 256 functions. No
// instruction, and no function of the allow-list, takes more than linear time (times a logarithm
// for sorting) in max_value_bytes or max_memory_bytes, but LIKE and GLOB, which take a tenth of a
// second at most; compiling is not interrupted, but is bounded by the same memory and the
// statement's length.
//
// The file may be hostile: functions and tables of its schema are not trusted, its triggers are
// off, its cells are checked, it is never mapped into memory (but for the shared index of a file in
// WAL mode). It may be changed by others, or replaced as a whole (renamed over): the next call sees
// the new file. While a call runs it holds a shared lock, and sees one state of the file. A file in
// WAL mode needs its "-shm" and "-wal" files beside it, as every reader of such a file does.
#ifndef OCTOGATE_GATEWAY_SQL_SQLITE_DATABASE_H_
#define OCTOGATE_GATEWAY_SQL_SQLITE_DATABASE_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/sql/sql_database.h"

namespace octogate::gateway {

struct SqliteOptions {
  std::string path;  // always a file's, never a URI
  size_t max_connections = 8;
  absl::Duration max_time = absl::Seconds(30);  // of one call, waiting included
  size_t max_memory_bytes = size_t{64} << 20;   // of one call
  // Of one text or blob that a statement reads or makes. A value that is longer can have its length
  // taken, and nothing else.
  size_t max_value_bytes = size_t{1} << 20;
};

// Does not look for the file: each call does. INVALID_ARGUMENT for options out of range;
// FAILED_PRECONDITION where SQLite was used in this process before main(), so that calls cannot be
// bounded in memory.
absl::StatusOr<std::unique_ptr<SqlDatabase>> OpenSqliteDatabase(const SqliteOptions& options);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SQL_SQLITE_DATABASE_H_
