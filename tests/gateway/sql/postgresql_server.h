// A PostgreSQL server of the tests' own, on a Unix socket in a temporary folder.
#ifndef OCTOGATE_TESTS_GATEWAY_SQL_POSTGRESQL_SERVER_H_
#define OCTOGATE_TESTS_GATEWAY_SQL_POSTGRESQL_SERVER_H_

#include <sys/types.h>

#include <memory>
#include <string>

namespace octogate::gateway {

// Stopped and removed at the end; it ends with this process in any case.
class PostgresqlServer {
 public:
  // Null, and `why` says it, where no server can be run here: it is not installed, or this is root
  // and there is no user "postgres" to run it as.
  static std::unique_ptr<PostgresqlServer> Start(std::string* why);
  ~PostgresqlServer();
  PostgresqlServer(const PostgresqlServer&) = delete;
  PostgresqlServer& operator=(const PostgresqlServer&) = delete;

  const std::string& folder() const { return folder_; }
  // For OpenPostgresqlDatabase.
  std::string ConnectionAs(const std::string& role) const;
  // Runs statements as the superuser. A failure fails the test.
  void Administer(const std::string& sql) const;
  // The first value of a statement's result, as the superuser.
  std::string Value(const std::string& sql) const;

 private:
  PostgresqlServer() = default;
  std::string folder_;
  pid_t pid_ = 0;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_SQL_POSTGRESQL_SERVER_H_
