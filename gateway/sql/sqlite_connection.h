// One read-only connection to a SQLite file, made safe for statements from outside.
#ifndef OCTOGATE_GATEWAY_SQL_SQLITE_CONNECTION_H_
#define OCTOGATE_GATEWAY_SQL_SQLITE_CONNECTION_H_

#include <sqlite3.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/sql/sqlite_authorizer.h"
#include "gateway/sql/sqlite_database.h"

namespace octogate::gateway {

// Which file a path leads to: another one once it was replaced.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileIdentity&) const = default;
};

// NOT_FOUND where there is no file, or something else than a regular one.
absl::StatusOr<FileIdentity> IdentifyFile(const std::string& path);

// Used by one thread at a time.
class SqliteConnection {
 public:
  static absl::StatusOr<std::unique_ptr<SqliteConnection>> Open(const SqliteOptions& options);

  SqliteConnection(const SqliteConnection&) = delete;
  SqliteConnection& operator=(const SqliteConnection&) = delete;

  // Compiles the statement and, unless `result` is null, runs it. `call.deadline` holds as it is.
  absl::Status Run(std::string_view statement, const SqlCallOptions& call, SqlResult* result);

  // False after an error that may have left it, or what it knows of the file, in a bad state.
  bool reusable() const { return reusable_; }
  const FileIdentity& file() const { return file_; }

 private:
  struct Close {
    void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
  };
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

  explicit SqliteConnection(const SqliteOptions& options) : options_(options) {}

  absl::Status Configure();
  absl::Status RunInSnapshot(std::string_view statement, SqlResult* result);
  absl::StatusOr<Statement> Compile(std::string_view statement);
  // Whether a restricted caller may read what the authorizer cannot judge alone: names that may be
  // of tables or of common table expressions, and joins that it is not told of.
  absl::Status CheckTablesRead(std::string_view statement);
  absl::Status ReadRows(sqlite3_stmt* statement, SqlResult* result);
  // Statements of this library.
  absl::Status RunInternal(const char* sql);
  absl::StatusOr<Statement> PrepareInternal(const char* sql);

  // What the SQLite result code means. `statement`: of whose text offsets are.
  absl::Status ErrorFor(int code, bool with_offset);
  // Whether the call has to end, which stopped_ then says.
  bool MustStop();
  static int OnProgress(void* self) noexcept;
  static int OnBusy(void* self, int attempts) noexcept;

  const SqliteOptions options_;
  FileIdentity file_;
  std::unique_ptr<sqlite3, Close> database_;
  SqliteAuthorizer authorizer_;
  bool is_set_up_ = false;
  bool reusable_ = true;

  // Of the call that runs now.
  const SqlCallOptions* call_ = nullptr;
  absl::Time started_;
  absl::Status stopped_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SQL_SQLITE_CONNECTION_H_
