// Against a real server, started for these tests.
#include "gateway/sql/postgresql_database.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "tests/gateway/sql/postgresql_server.h"
#include "tests/gateway/sql/sql_test_files.h"

namespace octogate::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

constexpr char kCanary[] = "canary-7f3a9";
constexpr char kEndless[] = "SELECT count(*) FROM generate_series(1, 100000000000)";

class PostgresqlDatabaseTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = PostgresqlServer::Start(&why_not_).release();
    if (server_ == nullptr) return;
    server_->Administer(R"(
      CREATE ROLE reader LOGIN; CREATE ROLE boss SUPERUSER LOGIN;
      CREATE ROLE files LOGIN; GRANT pg_read_server_files TO files;
      CREATE ROLE climber LOGIN NOINHERIT; GRANT boss TO climber;
      CREATE TABLE people (id int PRIMARY KEY, name text, ssn text);
      INSERT INTO people VALUES (1, 'Ann', 'canary-7f3a9'), (2, 'Zoë', 'canary-7f3a9');
      CREATE TABLE vault (secret text); INSERT INTO vault VALUES ('canary-7f3a9');
      CREATE TABLE log (entry text); GRANT ALL ON log TO reader;
      CREATE SEQUENCE numbers; GRANT ALL ON numbers TO reader;
      CREATE FUNCTION write_log() RETURNS int LANGUAGE sql AS
        'INSERT INTO log VALUES (''x''); SELECT 1';
      GRANT SELECT (id, name) ON people TO reader;
      CREATE TABLE many AS SELECT i, repeat('x', 100) AS t FROM generate_series(1, 1000) i;
      GRANT SELECT ON many TO reader;
    )");
  }
  static void TearDownTestSuite() { delete server_; }

  void SetUp() override {
    if (server_ == nullptr) GTEST_SKIP() << why_not_;
  }

  std::unique_ptr<SqlDatabase> Open(const std::string& role = "reader",
                                    PostgresqlOptions options = {}) {
    options.connection = server_->ConnectionAs(role);
    auto database = OpenPostgresqlDatabase(options);
    EXPECT_TRUE(database.ok()) << database.status();
    return *std::move(database);
  }

  static inline PostgresqlServer* server_ = nullptr;
  static inline std::string why_not_;
};

TEST_F(PostgresqlDatabaseTest, ReturnsTypedValues) {
  const auto result = Open()->Execute(
      "SELECT 1::int2, '-9223372036854775808'::int8 AS a, 1.5::float8 AS a, 'Zoë', NULL, "
      "'\\x0011ff'::bytea, 12.50, 12345678901234567.5, true, 'infinity'::float8, '{1,2}'::int[] -- "
      "x",
      {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->columns, ElementsAre("int2", "a", "a", "?column?", "?column?", "bytea",
                                           "?column?", "?column?", "?column?", "float8", "int4"));
  EXPECT_EQ(
      Describe(*result),
      "1|-9223372036854775808|1.5|Zoë|NULL|blob of 3|12.5|12345678901234567.5|true|inf|{1,2}|\n");
}

TEST_F(PostgresqlDatabaseTest, KeepsTheOrderAndTakesEveryFormOfQuery) {
  const auto database = Open();
  for (const auto& [statement, rows] : std::vector<std::pair<std::string, std::string>>{
           {"SELECT name FROM people ORDER BY id DESC;", "Zoë|\nAnn|\n"},
           {" VALUES (1), (2) ; ", "1|\n2|\n"},
           {"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT i "
            "FROM n ORDER BY 1 DESC",
            "3|\n2|\n1|\n"},
           {"-- first\nSELECT ';' /* ) */", ";|\n"},
           {"(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1", "1|\n2|\n"},
           {"SELECT", "\n"},  // a row without columns
       }) {
    const auto result = database->Execute(statement, {});
    ASSERT_TRUE(result.ok()) << result.status() << statement;
    EXPECT_EQ(Describe(*result), rows);
    EXPECT_TRUE(database->Check(statement, {}).ok());
  }
}

TEST_F(PostgresqlDatabaseTest, RefusesWhatIsNotReading) {
  const auto denied = absl::StatusCode::kPermissionDenied;
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const struct {
    const char* statement;
    absl::StatusCode code;
    const char* says;
  } kAttempts[] = {
      {"INSERT INTO log VALUES ('x')", invalid, "syntax error at or near \"INSERT\" (at offset 0)"},
      {"UPDATE log SET entry = 'x'", invalid, "syntax error"},
      {"DELETE FROM log RETURNING *", invalid, "syntax error"},
      {"WITH x AS (DELETE FROM log RETURNING *) SELECT * FROM x", invalid, "data-modifying"},
      {"WITH x AS (INSERT INTO log VALUES ('x') RETURNING *) SELECT * FROM x", invalid,
       "data-modifying"},
      {"SELECT * INTO copy FROM log", invalid, "INTO"},
      {"SELECT * FROM log FOR UPDATE", denied, "read-only"},
      {"CREATE TABLE x (a int)", invalid, "syntax error"},
      {"DROP TABLE log", invalid, "syntax error"},
      {"TRUNCATE log", invalid, "syntax error"},
      {"COPY people TO STDOUT", invalid, "syntax error"},
      {"COPY (SELECT 1) TO PROGRAM 'touch $DIR/x'", invalid, "syntax error"},
      {"COPY log FROM '/etc/passwd'", invalid, "syntax error"},
      {"DO $$ BEGIN END $$", invalid, "syntax error"},
      {"CALL x()", invalid, "syntax error"},
      {"SET ROLE boss", invalid, "syntax error"},
      {"SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", invalid, "syntax error"},
      {"RESET ALL", invalid, "syntax error"},
      {"SHOW ALL", invalid, "syntax error"},
      {"EXPLAIN ANALYZE SELECT 1", invalid, "syntax error"},
      {"PREPARE x AS SELECT 1", invalid, "syntax error"},
      {"EXECUTE x", invalid, "syntax error"},
      {"FETCH ALL FROM octogate_given", invalid, "syntax error"},
      {"LISTEN x", invalid, "syntax error"},
      {"VACUUM", invalid, "syntax error"},
      {"COMMIT", invalid, "syntax error"},
      {"SELECT 1; COMMIT; DROP TABLE log", invalid, "multiple commands"},
      {"SELECT 1; INSERT INTO log VALUES ('x')", invalid, "multiple commands"},
      {"SELECT 1) AS q; DELETE FROM log; --", invalid, "syntax error"},
      {"SELECT 1) AS q(c1), (SELECT 2", invalid, "syntax error"},
      {"SELECT $1", invalid, "parameter"},
      {"SELECT set_config('transaction_read_only', 'off', false)", invalid, "read-write mode"},
      {"SELECT 1; -- x", invalid, "semicolon"},
      {"SELECT set_config('role', 'boss', false)", denied, ""},
      {"SELECT set_config('session_authorization', 'boss', false)", denied, ""},
      {"SELECT write_log()", denied, "read-only"},
      {"SELECT nextval('numbers')", denied, "read-only"},
      {"SELECT setval('numbers', 7)", denied, "read-only"},
      {"SELECT pg_read_file('/etc/passwd')", denied, "pg_read_file"},
      {"SELECT pg_ls_dir('/')", denied, "pg_ls_dir"},
      {"SELECT pg_stat_file('/etc/passwd')", denied, "pg_stat_file"},
      {"SELECT lo_import('/etc/passwd')", denied, "lo_import"},
      {"SELECT lo_export(1, '$DIR/x')", denied, "lo_export"},
      {"SELECT pg_reload_conf()", denied, "pg_reload_conf"},
      {"SELECT pg_switch_wal()", denied, ""},
      {"SELECT query_to_xml('DELETE FROM log', true, true, '')", invalid, ""},
      {"SELECT * FROM pg_authid", denied, "pg_authid"},
      {"SELECT rolpassword FROM pg_shadow", invalid, ""},
      {"SELECT passwd FROM pg_shadow", denied, "pg_shadow"},
      {"SELECT * FROM people", denied, "people"},
      {"SELECT ssn FROM people", denied, "people"},
      {"SELECT name FROM people ORDER BY ssn", denied, "people"},
      {"SELECT people FROM people", denied, "people"},
      {"SELECT p1.name FROM people p1 JOIN people p2 USING (ssn)", denied, "people"},
      {"SELECT count(*) FROM vault", denied, "vault"},
      {"TABLE vault", denied, "vault"},
      {"SELECT 1 / 0", invalid, "division by zero"},
      {"SELECT nam FROM people", invalid, "(at offset 7)"},
      {"SELECT 'é', nam FROM people", invalid, "(at offset 13)"},
      {"SELECT 'a'::int", invalid, "invalid input syntax"},
  };
  const auto database = Open();
  for (const auto& attempt : kAttempts) {
    const std::string statement =
        absl::StrReplaceAll(attempt.statement, {{"$DIR", server_->folder()}});
    SCOPED_TRACE(statement);
    const auto result = database->Execute(statement, {});
    EXPECT_EQ(result.status().code(), attempt.code)
        << result.status() << (result.ok() ? Describe(*result) : "");
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(attempt.says));
    EXPECT_THAT(std::string(result.status().message()), Not(HasSubstr(kCanary)));
  }
  EXPECT_EQ(server_->Value("SELECT count(*) FROM log"), "0");
  EXPECT_EQ(server_->Value("SELECT last_value FROM numbers"), "1");
  EXPECT_FALSE(std::filesystem::exists(server_->folder() + "/x"));
}

TEST_F(PostgresqlDatabaseTest, RefusesRolesThatMayDoTooMuch) {
  for (const char* role : {"boss", "files", "climber", "postgres"}) {
    const auto result = Open(role)->Execute("SELECT 1", {});
    EXPECT_EQ(result.status().code(), absl::StatusCode::kFailedPrecondition) << result.status();
    EXPECT_THAT(std::string(result.status().message()), HasSubstr("create a role"));
  }
}

TEST_F(PostgresqlDatabaseTest, LeavesRestrictionsToRoles) {
  SqlCallOptions options;
  options.permitted.emplace();
  EXPECT_EQ(Open()->Execute("SELECT 1", options).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(PostgresqlDatabaseTest, CallsLeaveNothingToTheNext) {
  const auto database = Open("reader", {.max_connections = 1});
  ASSERT_TRUE(database
                  ->Execute("SELECT set_config('search_path', 'nowhere', false), "
                            "set_config('statement_timeout', '1', false), "
                            "pg_advisory_lock(7)",
                            {})
                  .ok());
  const auto after = database->Execute(
      "SELECT current_setting('search_path') LIKE '%public%', (SELECT count(*) FROM pg_locks WHERE "
      "locktype = 'advisory'), count(*) FROM many",
      {});
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(Describe(*after), "true|0|1000|\n");
}

TEST_F(PostgresqlDatabaseTest, StopsAtRowsAndBytes) {
  const auto database = Open("reader", {.max_time = absl::Minutes(5)});
  for (const size_t rows : {0, 1, 7, 999, 1000, 1001}) {
    const auto result = database->Execute("SELECT * FROM many ORDER BY i", {.max_rows = rows});
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_THAT(result->rows, SizeIs(std::min<size_t>(rows, 1000)));
    EXPECT_EQ(result->truncation, rows < 1000 ? SqlTruncation::kRows : SqlTruncation::kNone);
  }
  for (const size_t bytes : {2, 109, 110, 217, 218, 5000, 108'001, 108'002}) {
    const auto result = database->Execute("SELECT * FROM many ORDER BY i", {.max_bytes = bytes});
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_THAT(result->rows, SizeIs((bytes - 2) / 108)) << bytes;
    EXPECT_EQ(result->truncation, bytes < 108'002 ? SqlTruncation::kBytes : SqlTruncation::kNone);
  }
  // A value that would fill this process is not sent.
  const auto huge = database->Execute("SELECT 1 AS a, repeat('x', 200000000) AS b", {});
  ASSERT_TRUE(huge.ok()) << huge.status();
  EXPECT_THAT(huge->rows, SizeIs(0));
  EXPECT_EQ(huge->truncation, SqlTruncation::kBytes);
}

TEST_F(PostgresqlDatabaseTest, DeadlinesAndCancellationsEndCalls) {
  const auto database = Open("reader", {.max_connections = 1, .max_time = absl::Hours(1)});
  ASSERT_TRUE(database->Check(kEndless, {}).ok());
  for (const char* statement : {kEndless, "SELECT pg_sleep(100000)"}) {
    EXPECT_EQ(database->Execute(statement, {.deadline = absl::Now() + absl::Milliseconds(300)})
                  .status()
                  .code(),
              absl::StatusCode::kDeadlineExceeded);
  }
  const auto cancellation = std::make_shared<Cancellation>();
  std::thread running([&] {
    EXPECT_EQ(database->Execute(kEndless, {.cancellation = cancellation}).status().code(),
              absl::StatusCode::kCancelled);
  });
  cancellation->Cancel();
  running.join();
  EXPECT_TRUE(database->Execute("SELECT 1", {}).ok());
  // Nothing goes on in the server.
  for (int i = 0; i < 600; ++i) {
    if (server_->Value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader' AND state = "
                       "'active'") == "0") {
      return;
    }
    absl::SleepFor(absl::Milliseconds(100));
  }
  ADD_FAILURE() << "a cancelled query still runs";
}

TEST_F(PostgresqlDatabaseTest, ServesManyThreadsAndLostConnections) {
  const auto database = Open("reader", {.max_connections = 3, .max_time = absl::Minutes(5)});
  const auto work = [&] {
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 8; ++thread) {
      threads.emplace_back([&, thread] {
        for (int i = 0; i < 5; ++i) {
          const auto result = database->Execute(
              absl::StrCat("SELECT i FROM many WHERE i = ", thread * 5 + i + 1), {});
          ASSERT_TRUE(result.ok()) << result.status();
          EXPECT_EQ(Describe(*result), absl::StrCat(thread * 5 + i + 1, "|\n"));
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  };
  work();
  server_->Administer(
      "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = 'reader'");
  work();
}

TEST_F(PostgresqlDatabaseTest, SaysWhatIsMissing) {
  auto nobody = OpenPostgresqlDatabase({.connection = "host=/nowhere password=hush-hush"});
  ASSERT_TRUE(nobody.ok());
  const auto unreachable = (*nobody)->Execute("SELECT 1", {});
  EXPECT_EQ(unreachable.status().code(), absl::StatusCode::kUnavailable) << unreachable.status();
  EXPECT_THAT(unreachable.status().ToString(), Not(HasSubstr("hush")));
  auto other = OpenPostgresqlDatabase(
      {.connection = absl::StrCat("host=", server_->folder(), " user=reader dbname=missing")});
  ASSERT_TRUE(other.ok());
  EXPECT_EQ((*other)->Execute("SELECT 1", {}).status().code(), absl::StatusCode::kNotFound);
}

TEST(PostgresqlOptionsTest, ErrorsKeepPasswords) {
  const auto database = OpenPostgresqlDatabase({.connection = "host=x password=a hush-hush"});
  EXPECT_EQ(database.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(database.status().ToString(), Not(HasSubstr("hush")));
}

}  // namespace
}  // namespace octogate::gateway
