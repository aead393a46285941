#include "gateway/sql/sqlite_database.h"

#include <utility>

#include "common/status_macros.h"
#include "gateway/sql/connection_pool.h"
#include "gateway/sql/sqlite_connection.h"
#include "gateway/sql/sqlite_memory.h"

namespace octogate::gateway {
namespace {

class SqliteDatabase : public SqlDatabase {
 public:
  explicit SqliteDatabase(const SqliteOptions& options)
      : SqlDatabase(options.max_time), options_(options), connections_(options.max_connections) {}

 private:
  absl::Status Run(std::string_view statement, const SqlCallOptions& call,
                   SqlResult* result) override {
    OCTOGATE_ASSIGN_OR_RETURN(auto place, connections_.Take(call));
    OCTOGATE_ASSIGN_OR_RETURN(const FileIdentity file, IdentifyFile(options_.path));
    std::unique_ptr<SqliteConnection> connection = place.TakeIdle();
    if (connection == nullptr || !(connection->file() == file)) {
      OCTOGATE_ASSIGN_OR_RETURN(connection, SqliteConnection::Open(options_));
    }
    const absl::Status status = connection->Run(statement, call, result);
    if (connection->reusable()) place.GiveBack(std::move(connection));
    return status;
  }

  const SqliteOptions options_;
  ConnectionPool<SqliteConnection> connections_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SqlDatabase>> OpenSqliteDatabase(const SqliteOptions& options) {
  if (options.path.empty() || options.path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("a SQLite database needs the path of its file");
  }
  if (options.max_connections == 0 || options.max_time <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("max_connections and max_time must be positive");
  }
  if (options.max_value_bytes < 1024 || options.max_value_bytes > (size_t{1} << 28) ||
      options.max_memory_bytes < (size_t{1} << 20) ||
      options.max_memory_bytes > (size_t{1} << 40)) {
    return absl::InvalidArgumentError(
        "max_value_bytes must be from 1 KiB to 256 MiB, and max_memory_bytes from 1 MiB to 1 TiB");
  }
  if (!SqliteMemoryLimit::Works()) {
    return absl::FailedPreconditionError(
        "SQLite was used before main(): the memory of its calls cannot be bounded");
  }
  return std::make_unique<SqliteDatabase>(options);
}

}  // namespace octogate::gateway
