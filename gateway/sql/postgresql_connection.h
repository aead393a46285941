// One connection to a PostgreSQL server, used for statements from outside.
#ifndef OCTOGATE_GATEWAY_SQL_POSTGRESQL_CONNECTION_H_
#define OCTOGATE_GATEWAY_SQL_POSTGRESQL_CONNECTION_H_

#include <libpq-fe.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gateway/sql/sql_database.h"

namespace octogate::gateway {

// Keywords and values, as PQconnectStartParams takes them; and what no message may show.
struct PostgresqlParameters {
  std::vector<std::pair<std::string, std::string>> values;
  std::string password;
};

// Used by one thread at a time.
class PostgresqlConnection {
 public:
  // Waits for the server until the call's deadline. Refuses roles that may do too much.
  static absl::StatusOr<std::unique_ptr<PostgresqlConnection>> Open(
      const PostgresqlParameters& parameters, const SqlCallOptions& call);

  PostgresqlConnection(const PostgresqlConnection&) = delete;
  PostgresqlConnection& operator=(const PostgresqlConnection&) = delete;

  // Plans the statement and, unless `result` is null, runs it. `call.deadline` is finite.
  absl::Status Run(std::string_view statement, const SqlCallOptions& call, SqlResult* result);

  // False once its state is not known, e.g. after a deadline.
  bool reusable() const { return reusable_; }

 private:
  struct Finish {
    void operator()(PGconn* connection) const { PQfinish(connection); }
  };
  struct Clear {
    void operator()(PGresult* result) const { PQclear(result); }
  };
  using Result = std::unique_ptr<PGresult, Clear>;

  explicit PostgresqlConnection(const PostgresqlParameters& parameters)
      : password_(parameters.password) {}

  absl::Status Connect(const PostgresqlParameters& parameters, const SqlCallOptions& call);
  absl::Status CheckRole(const SqlCallOptions& call);
  absl::Status RunInTransaction(std::string_view statement, const SqlCallOptions& call,
                                SqlResult* result);
  absl::Status ReadRows(const SqlCallOptions& call, const std::vector<Oid>& types,
                        SqlResult* result);
  // One statement of this library and its last result.
  absl::StatusOr<Result> Query(const std::string& sql, const SqlCallOptions& call,
                               std::string_view prefix = {});
  // Waits until the socket can be read, or written where there is something to send.
  absl::Status Wait(bool writing, const SqlCallOptions& call);
  absl::Status Stop(absl::Status why);
  // `prefix`: what this library put before the statement.
  absl::Status ErrorOf(const PGresult* result, std::string_view sql, std::string_view prefix);
  std::string Scrub(const char* message) const;

  const std::string password_;
  std::unique_ptr<PGconn, Finish> connection_;
  bool reusable_ = true;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SQL_POSTGRESQL_CONNECTION_H_
