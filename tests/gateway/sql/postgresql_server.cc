#include "tests/gateway/sql/postgresql_server.h"

#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace octogate::gateway {
namespace {

constexpr char kSuperuser[] = "postgres";

// The folder of the newest installed server's programs, or nothing.
std::string ProgramFolder() {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/usr/lib/postgresql", error)) {
    if (std::filesystem::exists(entry.path() / "bin/initdb")) found.push_back(entry.path() / "bin");
  }
  return found.empty() ? "" : *std::max_element(found.begin(), found.end());
}

// Starts a program as the user, writing to the log; it gets SIGQUIT when this process ends.
pid_t Spawn(const std::vector<std::string>& command, const passwd* user, const std::string& log) {
  std::vector<char*> arguments;
  for (const std::string& argument : command)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid != 0) return pid;
  const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  dup2(out, 1);
  dup2(out, 2);
  if (user != nullptr &&
      (setgroups(0, nullptr) != 0 || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0)) {
    _exit(126);
  }
  prctl(PR_SET_PDEATHSIG, SIGQUIT);
  if (getppid() != parent) _exit(125);
  unsetenv("LD_PRELOAD");
  if (chdir("/") != 0) _exit(124);
  execv(arguments[0], arguments.data());
  _exit(127);
}

std::string Contents(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

std::unique_ptr<PostgresqlServer> PostgresqlServer::Start(std::string* why) {
  const std::string programs = ProgramFolder();
  if (programs.empty()) {
    *why = "no PostgreSQL server is installed (Debian's package postgresql)";
    return nullptr;
  }
  const passwd* user = nullptr;
  if (geteuid() == 0) {
    user = getpwnam("postgres");
    if (user == nullptr) {
      *why = "PostgreSQL does not run as root, and there is no user postgres";
      return nullptr;
    }
  }
  auto server = std::unique_ptr<PostgresqlServer>(new PostgresqlServer());
  // Short: the name of a socket has at most 107 bytes.
  server->folder_ = "/tmp/octogate_pg_XXXXXX";
  if (mkdtemp(server->folder_.data()) == nullptr) {
    *why = "cannot make a folder in /tmp";
    return nullptr;
  }
  if (user != nullptr && chown(server->folder_.c_str(), user->pw_uid, user->pw_gid) != 0) {
    *why = "cannot give a folder to the user postgres";
    return nullptr;
  }
  const std::string data = server->folder_ + "/data";
  const std::string log = server->folder_ + "/log";
  const pid_t init = Spawn({programs + "/initdb", "-D", data, "-A", "trust", "-U", kSuperuser,
                            "--no-sync", "--locale=C.UTF-8", "-E", "UTF8"},
                           user, log);
  int status = -1;
  if (init < 0 || waitpid(init, &status, 0) != init || status != 0) {
    *why = absl::StrCat("initdb failed: ", Contents(log));
    return nullptr;
  }
  server->pid_ = Spawn({programs + "/postgres", "-D", data, "-k", server->folder_, "-h", "", "-F",
                        "-c", "max_connections=40", "-c", "shared_buffers=16MB"},
                       user, log);
  const absl::Time end = absl::Now() + absl::Minutes(2);
  while (absl::Now() < end) {
    if (PQping(server->ConnectionAs(kSuperuser).c_str()) == PQPING_OK) return server;
    if (waitpid(server->pid_, &status, WNOHANG) == server->pid_) {
      server->pid_ = 0;
      break;
    }
    absl::SleepFor(absl::Milliseconds(50));
  }
  *why = absl::StrCat("the server does not start: ", Contents(log));
  return nullptr;
}

PostgresqlServer::~PostgresqlServer() {
  if (pid_ > 0) {
    kill(pid_, SIGQUIT);
    waitpid(pid_, nullptr, 0);
  }
  std::error_code error;
  std::filesystem::remove_all(folder_, error);
}

std::string PostgresqlServer::ConnectionAs(const std::string& role) const {
  return absl::StrCat("host=", folder_, " dbname=postgres user=", role);
}

void PostgresqlServer::Administer(const std::string& sql) const {
  PGconn* connection = PQconnectdb(ConnectionAs(kSuperuser).c_str());
  PGresult* result = PQexec(connection, sql.c_str());
  EXPECT_TRUE(PQresultStatus(result) == PGRES_COMMAND_OK ||
              PQresultStatus(result) == PGRES_TUPLES_OK)
      << PQerrorMessage(connection) << " in " << sql;
  PQclear(result);
  PQfinish(connection);
}

std::string PostgresqlServer::Value(const std::string& sql) const {
  PGconn* connection = PQconnectdb(ConnectionAs(kSuperuser).c_str());
  PGresult* result = PQexec(connection, sql.c_str());
  EXPECT_EQ(PQresultStatus(result), PGRES_TUPLES_OK) << PQerrorMessage(connection);
  const std::string value = PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "";
  PQclear(result);
  PQfinish(connection);
  return value;
}

}  // namespace octogate::gateway
