#include "gateway/sql/postgresql_database.h"

#include <libpq-fe.h>

#include <utility>

#include "common/status_macros.h"
#include "gateway/sql/connection_pool.h"
#include "gateway/sql/postgresql_connection.h"

namespace octogate::gateway {
namespace {

class PostgresqlDatabase : public SqlDatabase {
 public:
  PostgresqlDatabase(const PostgresqlOptions& options, PostgresqlParameters parameters)
      : SqlDatabase(options.max_time),
        parameters_(std::move(parameters)),
        connections_(options.max_connections) {}

 private:
  absl::Status Run(std::string_view statement, const SqlCallOptions& call,
                   SqlResult* result) override {
    if (call.permitted.has_value()) {
      return absl::FailedPreconditionError(
          "in PostgreSQL the role decides which tables and columns are read: use one role for each "
          "group of callers, with GRANT SELECT (columns) ON …");
    }
    OCTOGATE_ASSIGN_OR_RETURN(auto place, connections_.Take(call));
    std::unique_ptr<PostgresqlConnection> connection = place.TakeIdle();
    const bool was_idle = connection != nullptr;
    if (!was_idle) {
      OCTOGATE_ASSIGN_OR_RETURN(connection, PostgresqlConnection::Open(parameters_, call));
    }
    absl::Status status = connection->Run(statement, call, result);
    if (was_idle && absl::IsUnavailable(status) && !connection->reusable()) {
      // The server may have closed it while nobody used it. Reading twice does no harm.
      if (result != nullptr) *result = SqlResult();
      OCTOGATE_ASSIGN_OR_RETURN(connection, PostgresqlConnection::Open(parameters_, call));
      status = connection->Run(statement, call, result);
    }
    if (connection->reusable()) place.GiveBack(std::move(connection));
    return status;
  }

  const PostgresqlParameters parameters_;
  ConnectionPool<PostgresqlConnection> connections_;
};

struct FreeOptions {
  void operator()(PQconninfoOption* options) const { PQconninfoFree(options); }
};

}  // namespace

absl::StatusOr<std::unique_ptr<SqlDatabase>> OpenPostgresqlDatabase(
    const PostgresqlOptions& options) {
  if (options.max_connections == 0 || options.max_time <= absl::ZeroDuration() ||
      options.max_time > absl::Hours(24)) {
    return absl::InvalidArgumentError(
        "max_connections must be positive, and max_time positive and at most a day");
  }
  char* error = nullptr;
  const std::unique_ptr<PQconninfoOption, FreeOptions> parsed(
      PQconninfoParse(options.connection.c_str(), &error));
  if (error != nullptr) PQfreemem(error);  // it may quote a password
  if (parsed == nullptr) {
    return absl::InvalidArgumentError(
        "the connection string is not one that libpq understands: write host=… dbname=… user=…, or "
        "postgresql://user@host/database");
  }
  PostgresqlParameters parameters;
  bool has_name = false;
  bool has_timeout = false;
  for (const PQconninfoOption* option = parsed.get(); option->keyword != nullptr; ++option) {
    if (option->val == nullptr) continue;
    const std::string keyword = option->keyword;
    if (keyword == "client_encoding") continue;
    if (keyword == "password") parameters.password = option->val;
    has_name |= keyword == "application_name";
    has_timeout |= keyword == "tcp_user_timeout";
    parameters.values.emplace_back(keyword, option->val);
  }
  parameters.values.emplace_back("client_encoding", "UTF8");
  if (!has_name) parameters.values.emplace_back("application_name", "octogate");
  // For what is sent when nobody waits in poll(): cancelling.
  if (!has_timeout) parameters.values.emplace_back("tcp_user_timeout", "10000");
  return std::make_unique<PostgresqlDatabase>(options, std::move(parameters));
}

}  // namespace octogate::gateway
