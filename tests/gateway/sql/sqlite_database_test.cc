#include "gateway/sql/sqlite_database.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gateway/sql/sqlite_memory.h"
#include "tests/gateway/sql/sql_test_files.h"

namespace octogate::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr char kEndless[] =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

class SqliteDatabaseTest : public ::testing::Test {
 protected:
  void SetUp() override { path_ = folder_.File("test.db"); }

  void Make(const std::string& sql) { RunOnFile(path_, sql); }

  std::unique_ptr<SqlDatabase> Open(SqliteOptions options = {}) {
    options.path = path_;
    auto database = OpenSqliteDatabase(options);
    EXPECT_TRUE(database.ok()) << database.status();
    return *std::move(database);
  }

  TestFolder folder_;
  std::string path_;
};

TEST_F(SqliteDatabaseTest, ReturnsTypedValues) {
  Make(
      "CREATE TABLE t (a, b, c, d, e); INSERT INTO t VALUES (NULL, -9223372036854775808, 1.5, "
      "'Zoë' || char(0) || 'x', x'0011ff'), (1, 2, 9e999, CAST(x'61ff62' AS TEXT), x'')");
  const auto result = Open()->Execute("SELECT a, b, c AS \"see c\", d, e FROM t", {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->columns, ElementsAre("a", "b", "see c", "d", "e"));
  ASSERT_THAT(result->rows, SizeIs(2));
  EXPECT_THAT(result->rows[0],
              ElementsAre(SqlValue(), SqlValue(std::numeric_limits<int64_t>::min()), SqlValue(1.5),
                          SqlValue(std::string("Zoë\0x", 6)), SqlValue(SqlBlob{3})));
  EXPECT_THAT(result->rows[1],
              ElementsAre(SqlValue(int64_t{1}), SqlValue(int64_t{2}), SqlValue(HUGE_VAL),
                          SqlValue("a?b"), SqlValue(SqlBlob{0})));
  EXPECT_EQ(result->truncation, SqlTruncation::kNone);
}

TEST_F(SqliteDatabaseTest, TellsWhatIsWrongWithAStatement) {
  Make("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)");
  const auto database = Open();
  const struct {
    const char* statement;
    const char* says;
  } kCases[] = {
      {"SELECT nam FROM people", "no such column: nam (at offset 7)"},
      {"SELECT name FORM people", "(at offset 17)"},
      {"SELECT name FROM persons", "no such table: persons"},
      {"SELECT", "incomplete input"},
      {"SELECT name FROM people GROUP BY max(id)", "aggregate functions"},
      {"SELECT foo(1)", "no such function: foo"},
      {"SELECT 9223372036854775807 + 1, abs(-9223372036854775807 - 1)", "integer overflow"},
      {"SELECT json('{')", "malformed JSON"},
  };
  for (const auto& c : kCases) {
    const auto result = database->Execute(c.statement, {});
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << c.statement;
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(c.says));
  }
  EXPECT_TRUE(database->Check("SELECT name FROM people", {}).ok());
  EXPECT_FALSE(database->Check("SELECT nam FROM people", {}).ok());
  EXPECT_TRUE(database->Check(kEndless, {}).ok());  // is not run
}

TEST_F(SqliteDatabaseTest, StopsAtRowsAndBytes) {
  Make(
      "CREATE TABLE t (a INT, b TEXT); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 "
      "FROM n WHERE i < 100) INSERT INTO t SELECT i, printf('%.*c', 100, 'x') FROM n");
  const auto database = Open();
  for (const size_t rows : {0, 1, 99, 100, 101}) {
    const auto result = database->Execute("SELECT * FROM t", {.max_rows = rows});
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_THAT(result->rows, SizeIs(std::min<size_t>(rows, 100)));
    EXPECT_EQ(result->truncation, rows < 100 ? SqlTruncation::kRows : SqlTruncation::kNone);
  }
  // Two names of one byte; each row has 8 + 100.
  for (const size_t bytes : {2, 109, 110, 217, 218, 10'801, 10'802}) {
    const auto result = database->Execute("SELECT * FROM t", {.max_bytes = bytes});
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_THAT(result->rows, SizeIs((bytes - 2) / 108)) << bytes;
    EXPECT_EQ(result->truncation, bytes < 10'802 ? SqlTruncation::kBytes : SqlTruncation::kNone);
  }
  EXPECT_EQ(database->Execute("SELECT * FROM t", {.max_bytes = 1}).status().code(),
            absl::StatusCode::kResourceExhausted);
}

// Each of these would take hours or the machine's memory. Whatever ends them, they end.
TEST_F(SqliteDatabaseTest, BombsEnd) {
  Make(
      "CREATE TABLE t (a TEXT); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
      "WHERE i < 1000) INSERT INTO t SELECT 'value ' || i FROM n;"
      "CREATE VIEW v0 AS SELECT 1 AS a;" +
      [] {
        std::string views;
        for (int i = 1; i < 40; ++i) {
          absl::StrAppend(&views, "CREATE VIEW v", i, " AS SELECT x.a FROM v", i - 1, " x, v",
                          i - 1, " y;");
        }
        return views;
      }());
  const auto database = Open({.max_time = absl::Minutes(5), .max_memory_bytes = 32 << 20});
  const std::string text = "printf('%.*c', 1000000, 'a')";
  std::string deep = "1";
  for (int i = 0; i < 5000; ++i) deep = absl::StrCat("(", deep, ")");
  std::string ors = "a = '1'";
  for (int i = 0; i < 4000; ++i) absl::StrAppend(&ors, " OR a = 'x'");
  std::string ctes = "WITH c0 AS (SELECT 1 AS a)";
  for (int i = 1; i < 40; ++i) {
    absl::StrAppend(&ctes, ", c", i, " AS (SELECT x.a FROM c", i - 1, " x, c", i - 1, " y)");
  }
  std::string unions = "SELECT 1";
  for (int i = 0; i < 5000; ++i) unions += " UNION SELECT 1";
  std::string blobs = "SELECT count(*) FROM (SELECT 1 AS q";
  for (int i = 0; i < 500; ++i) absl::StrAppend(&blobs, ", hex(x) AS h", i);
  blobs += " FROM (SELECT printf('%.*c', 400000, 'a') AS x) LIMIT 1) WHERE h1 < h2";
  std::string values = "SELECT ";
  for (int i = 0; i < 300; ++i) absl::StrAppend(&values, i == 0 ? "" : ", ", text);
  const std::vector<std::string> bombs = {
      kEndless,
      "SELECT count(*) FROM t a, t b, t c, t d, t e, t f",
      "SELECT a.a FROM t a, t b, t c, t d ORDER BY b.a || c.a || d.a",
      "SELECT count(DISTINCT a.a || b.a || c.a || d.a) FROM t a, t b, t c, t d",
      "SELECT group_concat(a.a) FROM t a, t b, t c",
      "SELECT json_group_array(a.a) FROM t a, t b, t c",
      "SELECT a.a, count(*) FROM t a, t b, t c GROUP BY a.a || b.a || c.a",
      "SELECT sum(length(x.a)) OVER (ORDER BY y.a) FROM t x, t y, t z",
      "WITH RECURSIVE n(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM n) SELECT max(s) FROM n",
      "WITH RECURSIVE n(s) AS (SELECT 'x' UNION SELECT s || 'y' FROM n) SELECT count(*) FROM n",
      "WITH RECURSIVE n(i, s) AS (SELECT 1, " + text +
          " UNION ALL SELECT i + 1, s || i FROM n WHERE i < 100000) SELECT count(*) FROM n "
          "ORDER BY s",
      "SELECT replace(replace(replace(" + text + ", 'a', 'aaaaaaaa'), 'a', 'aaaaaaaa'), 'a', 'b')",
      "SELECT hex(hex(hex(" + text + ")))",
      "SELECT " + text + " || " + text,
      values,
      "SELECT " + deep,
      "SELECT count(*) FROM t WHERE " + ors,
      ctes + " SELECT count(*) FROM c39",
      "SELECT count(*) FROM v39",
      unions,
      "SELECT json_extract(" + text + ", '$')",
      "SELECT count(*) FROM t a, t b, json_each('[1,2,3,4,5,6,7,8]'), t c, t d",
      "SELECT count(*) FROM json_tree('" + std::string(20'000, '[') + std::string(20'000, ']') +
          "')",
      blobs,
  };
  for (const std::string& bomb : bombs) {
    const auto result = database->Execute(bomb, {.deadline = absl::Now() + absl::Seconds(1)});
    EXPECT_FALSE(result.ok()) << bomb.substr(0, 200);
    EXPECT_TRUE(
        absl::IsDeadlineExceeded(result.status()) || absl::IsResourceExhausted(result.status()) ||
        absl::IsInvalidArgument(result.status()) || absl::IsPermissionDenied(result.status()))
        << result.status() << " for " << bomb.substr(0, 200);
    // The next call is not harmed.
    const auto after = database->Execute("SELECT count(*) FROM t", {});
    ASSERT_TRUE(after.ok()) << after.status() << " after " << bomb.substr(0, 200);
    EXPECT_EQ(Describe(*after), "1000|\n");
  }
  EXPECT_THAT(folder_.List(), ElementsAre("test.db"));
}

// Statements whose one step is long in SQLite itself: they end by themselves here.
TEST_F(SqliteDatabaseTest, FunctionsOnLongTextsAreLinear) {
  Make("CREATE TABLE t (a)");
  const auto database = Open({.max_time = absl::Minutes(5)});
  const std::string many = "printf('%.*c', 1000000, 'a')";
  const std::string half = "printf('%.*c', 500000, 'a')";
  for (const auto& [statement, rows] : std::vector<std::pair<std::string, std::string>>{
           {"SELECT instr(" + many + ", " + half + " || 'b')", "0|\n"},
           {"SELECT length(replace(" + many + ", " + half + " || 'b', 'c'))", "1000000|\n"},
           {"SELECT " + many + " LIKE '%a%a%a%a%a%a%a%a%a%a%a%a%b'", "0|\n"},
           {"SELECT " + many + " GLOB '*a*a*a*a*a*a*a*a*a*a*a*a*b'", "0|\n"},
           {"SELECT printf('%.*c', 2000000000, 'x')", "NULL|\n"},
           {"SELECT printf('%2000000000d', 1)", "NULL|\n"},
           {"SELECT length(trim(" + many + ", printf('%.*c', 999000, 'b') || 'a'))", "0|\n"},
       }) {
    const auto result = database->Execute(statement, {});
    ASSERT_TRUE(result.ok()) << result.status() << statement;
    EXPECT_EQ(Describe(*result), rows);
  }
}

// One LIKE of a long pattern in a long text compares half a thousand million characters.
TEST_F(SqliteDatabaseTest, PatternsThatTakeTooLongAreRefused) {
  Make("CREATE TABLE t (a)");
  const auto database = Open({.max_time = absl::Minutes(5)});
  const std::string statement =
      "SELECT printf('%.*c', 1000000, 'a') LIKE '%' || printf('%.*c', 490, 'a') || 'b'";
  EXPECT_THAT(std::string(database->Execute(statement, {}).status().message()),
              HasSubstr("too long for this pattern"));
  std::string many = "SELECT 1";
  for (int i = 0; i < 300; ++i) many += ", 'a' LIKE 'b'";
  EXPECT_EQ(database->Execute(many, {}).status().code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(SqliteDatabaseTest, MemoryOfOneCallIsBounded) {
  Make("CREATE TABLE t (a)");
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(path_.c_str(), &database), SQLITE_OK);
  const char* sql =
      "WITH RECURSIVE n(i, s) AS (SELECT 1, printf('%.*c', 1000, 'a') UNION ALL SELECT i + 1, s || "
      "'a' FROM n WHERE i < 2000) SELECT group_concat(s) FROM n";
  int64_t needed = 0;
  {
    const SqliteMemoryLimit limit(size_t{1} << 30);
    EXPECT_EQ(sqlite3_exec(database, sql, nullptr, nullptr, nullptr), SQLITE_OK);
    needed = limit.peak_bytes();
    EXPECT_FALSE(limit.exceeded());
  }
  EXPECT_GT(needed, 3'000'000);
  {
    const SqliteMemoryLimit limit(3'000'000);
    EXPECT_EQ(sqlite3_exec(database, sql, nullptr, nullptr, nullptr), SQLITE_NOMEM);
    EXPECT_TRUE(limit.exceeded());
    EXPECT_LE(limit.peak_bytes(), 3'000'000 + 64);  // the allocator may round up
  }
  EXPECT_EQ(sqlite3_exec(database, sql, nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(database);
}

TEST_F(SqliteDatabaseTest, DeadlinesAndCancellationsEndCalls) {
  Make("CREATE TABLE t (a)");
  const auto database = Open({.max_connections = 1, .max_time = absl::Hours(1)});
  EXPECT_EQ(database->Execute("SELECT 1", {.deadline = absl::InfinitePast()}).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(database->Execute(kEndless, {.deadline = absl::Now() + absl::Milliseconds(50)})
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);
  const auto cancelled = std::make_shared<Cancellation>();
  cancelled->Cancel();
  EXPECT_EQ(database->Execute("SELECT 1", {.cancellation = cancelled}).status().code(),
            absl::StatusCode::kCancelled);

  // One call runs, one waits for its connection; both end when they are cancelled.
  const auto first = std::make_shared<Cancellation>();
  const auto second = std::make_shared<Cancellation>();
  std::thread running([&] {
    EXPECT_EQ(database->Execute(kEndless, {.cancellation = first}).status().code(),
              absl::StatusCode::kCancelled);
  });
  std::thread waiting([&] {
    EXPECT_EQ(database->Execute(kEndless, {.cancellation = second}).status().code(),
              absl::StatusCode::kCancelled);
  });
  second->Cancel();
  waiting.join();
  first->Cancel();
  running.join();
  EXPECT_TRUE(database->Execute("SELECT 1", {}).ok());
}

TEST_F(SqliteDatabaseTest, ServesManyThreads) {
  Make(
      "CREATE TABLE t (a INT, secret TEXT); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT "
      "i + 1 FROM n WHERE i < 300) INSERT INTO t SELECT i, 'hidden' FROM n");
  const auto database = Open({.max_connections = 3, .max_time = absl::Minutes(5)});
  SqlCallOptions restricted;
  restricted.permitted = {{"t", std::vector<std::string>{"a"}}};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 40; ++i) {
        const int number = thread * 40 + i;
        const auto one = database->Execute(
            absl::StrCat("SELECT a FROM t WHERE a = ", number % 300 + 1), restricted);
        ASSERT_TRUE(one.ok()) << one.status();
        EXPECT_EQ(Describe(*one), absl::StrCat(number % 300 + 1, "|\n"));
        EXPECT_EQ(database->Execute("SELECT secret FROM t", restricted).status().code(),
                  absl::StatusCode::kPermissionDenied);
        const auto all = database->Execute("SELECT count(secret), sum(a) FROM t", {});
        ASSERT_TRUE(all.ok()) << all.status();
        EXPECT_EQ(Describe(*all), "300|45150|\n");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(SqliteDatabaseTest, SeesWhatTheOwnerChanges) {
  Make("CREATE TABLE t (a); INSERT INTO t VALUES (1)");
  const auto database = Open();
  const auto read = [&] {
    const auto result = database->Execute("SELECT * FROM t", {});
    return result.ok() ? Describe(*result) : result.status().ToString();
  };
  EXPECT_EQ(read(), "1|\n");
  Make("INSERT INTO t VALUES (2)");
  EXPECT_EQ(read(), "1|\n2|\n");
  Make("ALTER TABLE t ADD COLUMN b DEFAULT 7");
  EXPECT_EQ(read(), "1|7|\n2|7|\n");
  // Another file under the same name.
  RunOnFile(folder_.File("new.db"), "CREATE TABLE t (x); INSERT INTO t VALUES ('new')");
  std::filesystem::rename(folder_.File("new.db"), path_);
  EXPECT_EQ(read(), "new|\n");
  std::filesystem::remove(path_);
  EXPECT_THAT(read(), HasSubstr("NOT_FOUND"));
  Make("CREATE TABLE t (x); INSERT INTO t VALUES ('back')");
  EXPECT_EQ(read(), "back|\n");
}

TEST_F(SqliteDatabaseTest, ReadsFilesInWalMode) {
  Make("PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES (1)");
  sqlite3* owner = nullptr;
  ASSERT_EQ(sqlite3_open(path_.c_str(), &owner), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(owner, "INSERT INTO t VALUES (2)", nullptr, nullptr, nullptr), SQLITE_OK);
  const auto result = Open()->Execute("SELECT * FROM t", {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(Describe(*result), "1|\n2|\n");
  sqlite3_close(owner);
}

TEST_F(SqliteDatabaseTest, SaysThatTheFileIsLocked) {
  Make("CREATE TABLE t (a)");
  sqlite3* owner = nullptr;
  ASSERT_EQ(sqlite3_open(path_.c_str(), &owner), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(owner, "BEGIN EXCLUSIVE", nullptr, nullptr, nullptr), SQLITE_OK);
  const auto database = Open();
  EXPECT_EQ(
      database->Execute("SELECT * FROM t", {.deadline = absl::Now() + absl::Milliseconds(100)})
          .status()
          .code(),
      absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(database->Execute("SELECT * FROM t", {}).status().code(),
            absl::StatusCode::kUnavailable);
  ASSERT_EQ(sqlite3_exec(owner, "COMMIT", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(owner);
  EXPECT_TRUE(database->Execute("SELECT * FROM t", {}).ok());
}

TEST_F(SqliteDatabaseTest, SaysWhatIsNoDatabase) {
  const auto database = Open();
  EXPECT_EQ(database->Execute("SELECT 1", {}).status().code(), absl::StatusCode::kNotFound);
  std::filesystem::create_directory(path_);
  EXPECT_EQ(database->Execute("SELECT 1", {}).status().code(), absl::StatusCode::kNotFound);
  std::filesystem::remove(path_);
  WriteFile(path_, std::string(5000, 'x'));
  EXPECT_EQ(database->Execute("SELECT 1", {}).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(OpenSqliteDatabase({}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(SqliteDatabaseTest, TakesPathsAsFilesAlways) {
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder_.path());
  Make("CREATE TABLE t (a)");
  std::filesystem::copy_file(path_, "file:x?mode=memory");
  path_ = "file:x?mode=memory";
  EXPECT_TRUE(Open()->Execute("SELECT * FROM t", {}).ok());
  std::filesystem::current_path(before);
}

// What a hostile file's own schema may not do.
TEST_F(SqliteDatabaseTest, DoesNotTrustTheSchema) {
  Make(
      "CREATE TABLE t (a, g AS (hex(a)));"
      "CREATE VIEW evil AS SELECT load_extension('x') AS a;"
      "CREATE VIEW huge AS SELECT zeroblob(1000000000) AS a;"
      "CREATE VIEW settings AS SELECT * FROM pragma_database_list;"
      "CREATE VIRTUAL TABLE words USING fts5(w); INSERT INTO words VALUES ('x');"
      "INSERT INTO t VALUES ('z');");
  const auto database = Open();
  for (const char* statement : {"SELECT * FROM evil", "SELECT * FROM huge",
                                "SELECT * FROM settings", "SELECT * FROM words"}) {
    EXPECT_FALSE(database->Execute(statement, {}).ok()) << statement;
  }
  EXPECT_TRUE(database->Execute("SELECT g FROM t", {}).ok());
}

TEST_F(SqliteDatabaseTest, SurvivesDamagedFiles) {
  Make(
      "CREATE TABLE t (a TEXT PRIMARY KEY, b INT); CREATE TABLE u (x, y);"
      "CREATE VIEW v AS SELECT a FROM t JOIN u ON b = x; CREATE INDEX i ON u (x, y);"
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)"
      " INSERT INTO t SELECT 'value ' || i, i FROM n; INSERT INTO u SELECT b, a FROM t;");
  const std::string good = ReadFile(path_);
  const auto seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  const auto database = Open({.max_time = absl::Seconds(20)});
  int failed = 0;
  for (int i = 0; i < 200; ++i) {
    std::string bad = good;
    for (int changes = 1 + static_cast<int>(random() % 20); changes > 0; --changes) {
      bad[random() % (i % 2 == 0 ? bad.size() : 4096)] = static_cast<char>(random());
    }
    if (i % 10 == 0) bad.resize(random() % bad.size());
    // A new file: writing into an open one is another kind of damage.
    WriteFile(folder_.File("bad.db"), bad);
    std::filesystem::rename(folder_.File("bad.db"), path_);
    for (const char* statement :
         {"SELECT * FROM t", "SELECT count(*) FROM v", "SELECT y FROM u ORDER BY x DESC",
          "SELECT max(a), min(y) FROM t, u WHERE x BETWEEN 10 AND 20 AND b < 5"}) {
      failed += !database->Execute(statement, {}).ok();
    }
  }
  EXPECT_GT(failed, 0);
}

// Results equal those of a plain connection, on statements that people wrote.
TEST_F(SqliteDatabaseTest, AgreesWithAPlainConnection) {
  const char* data = std::getenv("OCTOGATE_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "OCTOGATE_TEST_DATA is not set";
  path_ = absl::StrCat(data, "/text2sql/chinook/Chinook_Sqlite.sqlite");
  const auto database = Open({.max_time = absl::Minutes(5)});
  for (
      const char* statement : {
          "SELECT * FROM Customer",
          "SELECT * FROM Track WHERE TrackId < 500",
          "SELECT a.Name, count(*) AS n FROM Artist a JOIN Album b USING (ArtistId) GROUP BY "
          "a.ArtistId ORDER BY n DESC, a.Name LIMIT 10",
          "SELECT BillingCountry, round(sum(Total), 2) FROM Invoice GROUP BY 1 HAVING sum(Total) > "
          "40 ORDER BY 2 DESC, 1",
          "SELECT strftime('%Y-%m', InvoiceDate) AS month, sum(Total) OVER (ORDER BY InvoiceDate, "
          "InvoiceId) FROM Invoice",
          "WITH RECURSIVE boss(id, depth) AS (SELECT EmployeeId, 0 FROM Employee WHERE ReportsTo "
          "IS NULL UNION ALL SELECT e.EmployeeId, depth + 1 FROM Employee e, boss WHERE "
          "e.ReportsTo = boss.id) SELECT FirstName || ' ' || LastName, depth FROM boss JOIN "
          "Employee ON EmployeeId = id ORDER BY depth, id",
          "SELECT g.Name, avg(Milliseconds) / 1000.0, max(Bytes) FROM Track t LEFT JOIN Genre g ON "
          "g.GenreId = t.GenreId GROUP BY g.GenreId ORDER BY 2",
          "SELECT upper(substr(Email, instr(Email, '@') + 1)), replace(Phone, ' ', '') FROM "
          "Customer WHERE Email LIKE '%.com' ORDER BY 1, 2",
          "SELECT Name FROM Track EXCEPT SELECT t.Name FROM Track t JOIN InvoiceLine l ON "
          "l.TrackId "
          "= t.TrackId ORDER BY 1 LIMIT 200",
          "SELECT json_group_array(Name) FROM MediaType",
          "SELECT CASE WHEN Total > 10 THEN 'high' ELSE 'low' END AS class, count(*), "
          "group_concat(DISTINCT BillingCountry) FROM Invoice GROUP BY class",
          "SELECT row_number() OVER (PARTITION BY Country ORDER BY LastName), Country, LastName "
          "FROM Customer ORDER BY Country, 1",
      }) {
    const auto result = database->Execute(statement, {.max_rows = 100'000, .max_bytes = 1 << 26});
    ASSERT_TRUE(result.ok()) << result.status() << statement;
    const SqlResult plain = PlainResult(path_, statement);
    EXPECT_GT(plain.rows.size(), 0u) << statement;
    EXPECT_EQ(result->columns, plain.columns) << statement;
    EXPECT_EQ(Describe(*result), Describe(plain)) << statement;
  }
}

}  // namespace
}  // namespace octogate::gateway
