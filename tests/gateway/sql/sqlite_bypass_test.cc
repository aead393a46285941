// Attempts to do more than read what is permitted, each with the refusal that it must meet. They
// run against a database with a canary: its value may appear in no answer and no error, its file
// must stay as it is, and nothing may appear beside it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/strings.h"
#include "gateway/sql/sqlite_database.h"
#include "tests/gateway/sql/sql_test_files.h"

namespace octogate::gateway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kCanary[] = "canary-7f3a9";

constexpr char kSchema[] = R"(
  CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, city TEXT, ssn TEXT,
                       masked TEXT AS (substr(ssn, 1, 0) || '***'));
  CREATE TABLE orders (id INTEGER PRIMARY KEY, person INT, amount REAL, note TEXT, ssn TEXT);
  CREATE TABLE vault (id INTEGER PRIMARY KEY, ssn TEXT, secret TEXT);
  CREATE TABLE bare (a TEXT, b TEXT);
  CREATE TABLE keyed (k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID;
  CREATE VIEW names AS SELECT name FROM people;
  CREATE VIEW leak AS SELECT name, ssn AS harmless FROM people;
  CREATE VIEW leak2 AS SELECT harmless FROM leak;
  CREATE VIEW joined AS SELECT p.name FROM people p JOIN vault USING (ssn);
  CREATE VIEW natural_ones AS SELECT name FROM people NATURAL JOIN vault;
  CREATE VIEW over AS SELECT name FROM joined;
  CREATE VIEW silent AS SELECT 1 AS one FROM people NATURAL JOIN vault;
  CREATE VIEW above AS SELECT 1 AS one FROM "Silent";
  CREATE TABLE log (entry TEXT);
  CREATE TRIGGER watch INSTEAD OF INSERT ON names BEGIN INSERT INTO log VALUES (new.name); END;
  INSERT INTO people (id, name, city, ssn) VALUES (1, 'Ann', 'Rome', 'canary-7f3a9'),
                                                  (2, 'Bob', 'Oslo', 'canary-7f3a9-2');
  INSERT INTO orders VALUES (1, 1, 9.5, 'x', 'canary-7f3a9');
  INSERT INTO vault VALUES (1, 'canary-7f3a9', 'canary-7f3a9');
  INSERT INTO bare VALUES ('a', 'canary-7f3a9');
  INSERT INTO keyed VALUES ('canary-7f3a9', 'v');
  CREATE INDEX by_ssn ON people (ssn);
  ANALYZE;
)";

enum class Caller { kAnyone, kRestricted };  // kRestricted: see Permissions()

struct Attempt {
  Caller caller;
  std::string_view statement;
  absl::StatusCode code;
  std::string_view says;
};

constexpr auto kAny = Caller::kAnyone;
constexpr auto kFew = Caller::kRestricted;
constexpr auto kDenied = absl::StatusCode::kPermissionDenied;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kTooMuch = absl::StatusCode::kResourceExhausted;

// "$DIR" is the folder of the database.
constexpr Attempt kAttempts[] = {
    // Writing.
    {kAny, "INSERT INTO people (name) VALUES ('x')", kDenied, "INSERT INTO people"},
    {kAny, "UPDATE people SET name = 'x'", kDenied, "UPDATE people"},
    {kAny, "DELETE FROM people", kDenied, "DELETE FROM people"},
    {kAny, "REPLACE INTO people (id, name) VALUES (1, 'x')", kDenied, "INSERT INTO people"},
    {kAny, "INSERT INTO people (name) VALUES ('x') RETURNING ssn", kDenied, "INSERT INTO people"},
    {kAny, "DELETE FROM people RETURNING *", kDenied, "DELETE FROM people"},
    {kAny, "UPDATE people SET name = ssn RETURNING name", kDenied, "UPDATE people"},
    {kAny, "WITH a AS (SELECT 1) INSERT INTO people (id) SELECT * FROM a", kDenied, "INSERT"},
    {kAny, "WITH a AS (SELECT 1) UPDATE people SET name = 'x' RETURNING id", kDenied, "UPDATE"},
    {kAny, "WITH a AS (DELETE FROM people RETURNING *) SELECT * FROM a", kInvalid, "syntax error"},
    {kAny, "SELECT * FROM (DELETE FROM people RETURNING *)", kInvalid, "syntax error"},
    {kAny, "INSERT INTO names VALUES ('x')", kDenied, "INSERT INTO names"},
    {kAny, "CREATE TABLE x (a)", kDenied, "INSERT INTO sqlite_master"},
    {kAny, "CREATE TABLE x AS SELECT * FROM people", kDenied, "INSERT INTO sqlite_master"},
    {kAny, "CREATE TEMP TABLE x AS SELECT * FROM people", kDenied, "INSERT INTO sqlite_temp"},
    {kAny, "CREATE TEMP VIEW people AS SELECT 1", kDenied, "INSERT INTO sqlite_temp"},
    {kAny, "CREATE TEMP TRIGGER t AFTER INSERT ON people BEGIN SELECT 1; END", kDenied, "TRIGGER"},
    {kAny, "CREATE VIRTUAL TABLE x USING fts5(a)", kDenied, "INSERT INTO sqlite_master"},
    {kAny, "CREATE INDEX x ON people (name)", kDenied, "INSERT INTO sqlite_master"},
    {kAny, "DROP TABLE people", kDenied, "DELETE FROM sqlite_master"},
    {kAny, "DROP VIEW names", kDenied, "DELETE FROM sqlite_master"},
    {kAny, "ALTER TABLE people RENAME TO x", kDenied, "ALTER TABLE"},
    {kAny, "ALTER TABLE people ADD COLUMN x", kDenied, "ALTER TABLE"},
    {kAny, "REINDEX", kDenied, "REINDEX"},
    {kAny, "ANALYZE", kDenied, "ANALYZE"},
    {kAny, "VACUUM", kDenied, "anything but SELECT"},
    {kAny, "VACUUM INTO '$DIR/copy.db'", kDenied, "anything but SELECT"},
    {kAny, "VACUUM main INTO '$DIR/copy.db'", kDenied, "anything but SELECT"},
    // Other files, settings, transactions.
    {kAny, "ATTACH '$DIR/other.db' AS o", kDenied, "ATTACH"},
    {kAny, "ATTACH ':memory:' AS o", kDenied, "ATTACH"},
    {kAny, "ATTACH 'file:$DIR/other.db?mode=rwc' AS o", kDenied, "ATTACH"},
    {kAny, "DETACH main", kDenied, "DETACH"},
    {kAny, "PRAGMA query_only = OFF", kDenied, "PRAGMA query_only"},
    {kAny, "PRAGMA writable_schema = 1", kDenied, "PRAGMA writable_schema"},
    {kAny, "PRAGMA journal_mode = DELETE", kDenied, "PRAGMA journal_mode"},
    {kAny, "PRAGMA main.user_version = 7", kDenied, "PRAGMA user_version"},
    {kAny, "PRAGMA temp_store_directory = '$DIR'", kDenied, "PRAGMA temp_store_directory"},
    {kAny, "PRAGMA database_list", kDenied, "PRAGMA database_list"},
    {kAny, "SELECT * FROM pragma_database_list", kDenied, "PRAGMA as a table"},
    {kAny, "SELECT name FROM pragma_table_info('people')", kDenied, "PRAGMA as a table"},
    {kAny, "SELECT count(*) FROM pragma_table_list", kDenied, "PRAGMA as a table"},
    {kAny, "SELECT * FROM people, pragma_user_version", kDenied, "PRAGMA as a table"},
    {kAny, "BEGIN IMMEDIATE", kDenied, "transactions"},
    {kAny, "COMMIT", kDenied, "transactions"},
    {kAny, "ROLLBACK", kDenied, "transactions"},
    {kAny, "SAVEPOINT s", kDenied, "SAVEPOINT"},
    {kAny, "RELEASE s", kDenied, "SAVEPOINT"},
    {kAny, "EXPLAIN SELECT * FROM people", kDenied, "EXPLAIN"},
    {kAny, "EXPLAIN QUERY PLAN SELECT * FROM people", kDenied, "EXPLAIN"},
    {kAny, "EXPLAIN INSERT INTO people (id) VALUES (9)", kDenied, "INSERT"},
    // Functions.
    {kAny, "SELECT load_extension('$DIR/x.so')", kDenied, "function load_extension"},
    {kAny, "SELECT LOAD_EXTENSION('x', 'y')", kDenied, "function load_extension"},
    {kAny, "SELECT \"load_extension\"('x')", kDenied, "function load_extension"},
    {kAny, "SELECT name FROM people ORDER BY load_extension('x')", kDenied, "load_extension"},
    {kAny, "SELECT 1 WHERE load_extension('x') IS NULL", kDenied, "load_extension"},
    {kAny, "WITH a AS (SELECT load_extension('x')) SELECT 1 FROM a", kDenied, "load_extension"},
    {kAny, "SELECT CASE WHEN 0 THEN load_extension('x') END", kDenied, "load_extension"},
    {kAny, "VALUES (load_extension('x'))", kDenied, "load_extension"},
    {kAny, "SELECT readfile('/etc/passwd')", kInvalid, "no such function"},
    {kAny, "SELECT writefile('$DIR/x', 'y')", kInvalid, "no such function"},
    {kAny, "SELECT edit('x')", kInvalid, "no such function"},
    {kAny, "SELECT fts3_tokenizer('simple')", kDenied, "function fts3_tokenizer"},
    {kAny, "SELECT sqlite_version()", kDenied, "function sqlite_version"},
    {kAny, "SELECT sqlite_compileoption_get(0)", kDenied, "function sqlite_compileoption_get"},
    {kAny, "SELECT sqlite_log(1, 'x')", kDenied, "function sqlite_log"},
    {kAny, "SELECT changes() + total_changes()", kDenied, "changes"},
    {kAny, "SELECT last_insert_rowid()", kDenied, "last_insert_rowid"},
    {kAny, "SELECT zeroblob(1000000000)", kDenied, "function zeroblob"},
    {kAny, "SELECT hex(randomblob(1000000000))", kDenied, "function randomblob"},
    {kAny, "SELECT matchinfo(people) FROM people", kDenied, "function matchinfo"},
    {kAny, "SELECT rtreecheck('people')", kDenied, "function rtreecheck"},
    {kAny, "SELECT json_patch('{}', '{}')", kDenied, "function json_patch"},
    {kAny, "SELECT 'x' MATCH 'y'", kDenied, "function match"},
    {kAny, "SELECT 'x' REGEXP 'y'", kInvalid, "no such function"},
    {kAny, "SELECT replace(printf('%.*c', 1000000, 'x'), 'x', 'yyy')", kTooMuch, "value"},
    {kAny, "UPDATE sqlite_master SET sql = 'x'", kInvalid, "may not be modified"},
    // The schema, statistics and what belongs to the library.
    {kAny, "SELECT * FROM sqlite_master", kDenied, "table sqlite_master"},
    {kAny, "SELECT sql FROM sqlite_schema", kDenied, "table sqlite_master"},
    {kAny, "SELECT count(*) FROM main.sqlite_schema", kDenied, "table sqlite_"},
    {kAny, "SELECT * FROM sqlite_temp_master", kDenied, "table sqlite_temp_master"},
    {kAny, "SELECT * FROM \"SQLITE_Master\"", kDenied, "table sqlite_master"},
    {kAny, "SELECT 1 WHERE EXISTS (SELECT 1 FROM sqlite_master)", kDenied, "table sqlite_master"},
    {kAny, "SELECT * FROM sqlite_stat1", kDenied, "table sqlite_stat1"},
    {kAny, "SELECT * FROM dbstat", kInvalid, "no such table"},
    {kAny, "SELECT * FROM sqlite_stmt", kInvalid, "no such table"},
    {kAny, "SELECT * FROM fts3tokenize('simple', 'x')", kInvalid, "no such table"},
    {kAny, "SELECT * FROM sqlite_dbpage", kInvalid, "no such table"},
    {kAny, "SELECT * FROM bytecode('SELECT 1')", kInvalid, "no such table"},
    // More than one statement, hidden ends.
    {kAny, "SELECT 1; DROP TABLE people", kInvalid, "more than one statement"},
    {kAny, "SELECT 1;;; /* x */ DELETE FROM people;", kInvalid, "more than one statement"},
    {kAny, "SELECT 1; -- x\nATTACH 'x' AS y", kInvalid, "more than one statement"},
    {kAny, "SELECT 1; garbage", kInvalid, "more than one statement"},
    {kAny, ";DELETE FROM people", kDenied, "DELETE FROM people"},
    {kAny, "/* SELECT */ DELETE FROM people -- SELECT", kDenied, "DELETE FROM people"},
    {kAny, "-- SELECT 1\nPRAGMA user_version = 1", kDenied, "PRAGMA"},
    {kAny, std::string_view("SELECT 1\0; DROP TABLE people", 28), kInvalid, "U+0000"},
    {kAny, "SELECT '\xff'", kInvalid, "UTF-8"},
    {kAny,
     "\xef\xbb\xbf"
     "DELETE FROM people",
     kDenied, "DELETE FROM people"},
    {kAny, "-- nothing", kInvalid, "no statement"},
    {kAny, " ; ", kInvalid, "no statement"},
    {kAny, "SELECT ?1", kInvalid, "parameter"},
    {kAny, "SELECT name FROM people WHERE id = :id", kInvalid, "parameter (:id)"},
    {kAny, "SELECT name FROM people WHERE name = \"Ann\"", kInvalid, "no such column: Ann"},
    // Columns and tables that the caller may not read.
    {kFew, "SELECT ssn FROM people", kDenied, "column people.ssn"},
    {kFew, "SELECT SSN FROM PEOPLE", kDenied, "column people.ssn"},
    {kFew, "SELECT \"ssn\" FROM [people]", kDenied, "column people.ssn"},
    {kFew, "SELECT p.`ssn` FROM main.people AS p", kDenied, "column people.ssn"},
    {kFew, "SELECT * FROM people", kDenied, "column people.ssn"},
    {kFew, "SELECT people.* FROM people", kDenied, "column people.ssn"},
    {kFew, "SELECT count(ssn) FROM people", kDenied, "column people.ssn"},
    {kFew, "SELECT max(ssn) OVER () FROM people", kDenied, "column people.ssn"},
    {kFew, "SELECT name FROM people WHERE ssn LIKE 'c%'", kDenied, "column people.ssn"},
    {kFew, "SELECT name FROM people ORDER BY ssn", kDenied, "column people.ssn"},
    {kFew, "SELECT count(*) FROM people GROUP BY ssn", kDenied, "column people.ssn"},
    {kFew, "SELECT count(*) FROM people GROUP BY id HAVING max(ssn) > 'c'", kDenied, "people.ssn"},
    {kFew, "SELECT name FROM people LIMIT (SELECT length(ssn) FROM people)", kDenied, "people.ssn"},
    {kFew, "SELECT 1 WHERE EXISTS (SELECT ssn FROM people)", kDenied, "column people.ssn"},
    {kFew, "SELECT (SELECT ssn FROM people)", kDenied, "column people.ssn"},
    {kFew, "SELECT x FROM (SELECT ssn AS x FROM people)", kDenied, "column people.ssn"},
    {kFew, "WITH x AS (SELECT ssn FROM people) SELECT * FROM x", kDenied, "column people.ssn"},
    {kFew, "WITH people AS (SELECT * FROM main.people) SELECT ssn FROM people", kDenied, "ssn"},
    {kFew, "WITH x(y) AS (SELECT ssn FROM people UNION SELECT y FROM x) SELECT y FROM x", kDenied,
     "column people.ssn"},
    {kFew, "SELECT name FROM people UNION SELECT ssn FROM people", kDenied, "column people.ssn"},
    {kFew, "SELECT name FROM people EXCEPT SELECT secret FROM vault", kDenied, "table vault"},
    {kFew, "SELECT 'x' IN (SELECT ssn FROM people)", kDenied, "column people.ssn"},
    {kFew, "SELECT (1, 'x') IN (SELECT id, ssn FROM people)", kDenied, "column people.ssn"},
    {kFew, "SELECT 'x' IN log", kDenied, "table log"},
    {kFew, "SELECT (1, 'x', 'y') IN vault", kDenied, "table vault"},
    {kFew, "SELECT p.name FROM people p JOIN people q ON p.ssn = q.ssn", kDenied, "people.ssn"},
    {kFew, "SELECT json_extract(ssn, '$') FROM people", kDenied, "column people.ssn"},
    {kFew, "SELECT value FROM people, json_each(json_array(ssn))", kDenied, "column people.ssn"},
    {kFew, "SELECT json_group_array(ssn) FROM people", kDenied, "column people.ssn"},
    {kFew, "SELECT load_extension(ssn) FROM people", kDenied, "load_extension"},
    {kFew, "SELECT masked FROM people", kDenied, "column people.masked"},
    {kFew, "SELECT abs(name || ssn) FROM people INDEXED BY by_ssn", kDenied, "column people.ssn"},
    {kFew, "SELECT secret FROM vault", kDenied, "table vault"},
    {kFew, "SELECT count(*) FROM vault", kDenied, "table vault"},
    {kFew, "SELECT 1 FROM vault", kDenied, "table vault"},
    {kFew, "SELECT people.name FROM people, vault", kDenied, "table vault"},
    {kFew, "SELECT people.name FROM people LEFT JOIN vault ON 1", kDenied, "table vault"},
    {kFew, "SELECT rowid FROM vault", kDenied, "table vault"},
    {kFew, "SELECT 1 WHERE EXISTS (SELECT 1 FROM vault)", kDenied, "table vault"},
    {kFew, "SELECT rowid FROM bare", kDenied, "column bare.ROWID"},
    {kFew, "SELECT _rowid_ FROM bare", kDenied, "column bare.ROWID"},
    {kFew, "SELECT oid FROM bare WHERE oid = 1", kDenied, "column bare.ROWID"},
    {kFew, "SELECT * FROM keyed", kDenied, "column keyed.k"},
    // Joins that compare columns without naming them.
    {kFew, "SELECT p.name FROM people p JOIN vault USING (ssn)", kDenied, ""},
    {kFew, "SELECT count(*) FROM orders JOIN vault USING (ssn)", kDenied, ""},
    {kFew, "SELECT count(*) FROM people p JOIN orders o USING (ssn)", kDenied, ""},
    {kFew, "SELECT p.name FROM people p NATURAL JOIN vault", kDenied, ""},
    {kFew, "SELECT name FROM people NATURAL LEFT JOIN orders", kDenied, ""},
    {kFew, "SELECT name FROM people/**/natural/**/JOIN orders", kDenied, ""},
    {kFew, "SELECT name FROM people JOIN orders \xef\xbb\xbfUSING(ssn)", kDenied, ""},
    {kFew, "SELECT name, '''' FROM people JOIN orders USING(ssn) WHERE '' <> '''", kInvalid, ""},
    {kFew, "SELECT $x('), name FROM people JOIN orders USING(ssn) WHERE '' = ''", kInvalid, ""},
    {kFew, "SELECT name FROM people FULL JOIN orders USING (id, ssn)", kDenied, ""},
    {kFew, "WITH o AS (SELECT count(*) AS n FROM people JOIN orders USING (ssn)) SELECT n FROM o",
     kDenied, ""},
    // Views: permitted ones show no more than their tables would.
    {kFew, "SELECT * FROM leak", kDenied, "column people.ssn"},
    {kFew, "SELECT name FROM leak", kDenied, "column people.ssn"},
    {kFew, "SELECT count(*) FROM leak", kDenied, "column people.ssn"},
    {kFew, "SELECT harmless FROM leak2", kDenied, "people.ssn"},
    {kFew, "SELECT name FROM joined", kDenied, ""},
    {kFew, "SELECT count(*) FROM natural_ones", kDenied, ""},
    {kFew, "SELECT name FROM over", kDenied, ""},
    {kFew, "SELECT 'Ann' IN over", kDenied, ""},
    // SQLite's authorizer hears of no table in these.
    {kFew, "SELECT count(*) FROM silent", kDenied, "view silent"},
    {kFew, "SELECT count(*) FROM [SILENT]", kDenied, "view silent"},
    {kFew, "SELECT one FROM main.'above'", kDenied, "view"},
    {kFew, "WITH x AS (SELECT 1 FROM above) SELECT count(*) FROM x", kDenied, "view"},
    // Tables that have the name of something permitted.
    {kFew, "WITH vault AS (SELECT 1) SELECT secret FROM main.vault", kDenied, "table vault"},
    {kFew, "SELECT count(*) FROM sqlite_sequence", kInvalid, "no such table"},
};

std::vector<SqlTablePermission> Permissions() {
  const std::vector<std::string> some = {"ID", "Name", "city"};
  return {{"People", some},
          {"orders", std::vector<std::string>{"id", "person", "amount"}},
          {"bare", std::vector<std::string>{"a"}},
          {"keyed", std::vector<std::string>{"v"}},
          {"names", std::nullopt},
          {"leak", std::nullopt},
          {"leak2", std::nullopt},
          {"joined", std::nullopt},
          {"natural_ones", std::nullopt},
          {"over", std::nullopt},
          {"silent", std::nullopt},
          {"above", std::nullopt}};
}

class SqliteBypassTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = folder_.File("canary.db");
    RunOnFile(path_, kSchema);
    bytes_ = ReadFile(path_);
    auto database = OpenSqliteDatabase({.path = path_});
    ASSERT_TRUE(database.ok()) << database.status();
    database_ = *std::move(database);
  }

  void ExpectUntouched() {
    EXPECT_TRUE(ReadFile(path_) == bytes_) << "the file changed";
    EXPECT_THAT(folder_.List(), ::testing::ElementsAre("canary.db"));
  }

  SqlCallOptions OptionsOf(Caller caller) {
    SqlCallOptions options;
    if (caller == Caller::kRestricted) options.permitted = Permissions();
    return options;
  }

  TestFolder folder_;
  std::string path_;
  std::string bytes_;
  std::unique_ptr<SqlDatabase> database_;
};

TEST_F(SqliteBypassTest, EveryAttemptMeetsItsRefusal) {
  static_assert(std::size(kAttempts) >= 60);
  for (const Attempt& attempt : kAttempts) {
    const std::string statement =
        absl::StrReplaceAll(ToAbsl(attempt.statement), {{"$DIR", folder_.path()}});
    SCOPED_TRACE(statement);
    const SqlCallOptions options = OptionsOf(attempt.caller);
    const auto result = database_->Execute(statement, options);
    EXPECT_EQ(result.status().code(), attempt.code)
        << result.status() << (result.ok() ? Describe(*result) : "");
    const std::string message(result.status().message());
    EXPECT_THAT(message, HasSubstr(std::string(attempt.says)));
    EXPECT_THAT(message, Not(HasSubstr(kCanary)));
    if (attempt.code != kTooMuch) {  // those are seen when they run
      EXPECT_EQ(database_->Check(statement, options), result.status());
    }
  }
  ExpectUntouched();
  // The connections still work, and the canary can be read by those who may.
  const auto canary = database_->Execute("SELECT ssn FROM people WHERE id = 1", {});
  ASSERT_TRUE(canary.ok()) << canary.status();
  EXPECT_EQ(Describe(*canary), absl::StrCat(kCanary, "|\n"));
}

// What restricted callers may do, lest the refusals above come from refusing everything.
TEST_F(SqliteBypassTest, PermittedStatementsRun) {
  for (const auto& [statement, rows] : std::vector<std::pair<std::string, std::string>>{
           {"SELECT name FROM people ORDER BY id", "Ann|\nBob|\n"},
           {"SELECT NAME FROM PEOPLE WHERE City = 'Rome';", "Ann|\n"},
           {"SELECT count(*) FROM people -- done", "2|\n"},
           {"SELECT rowid FROM people ORDER BY 1", "1|\n2|\n"},  // an alias of id
           {"SELECT p.name, o.amount FROM people p JOIN orders o ON o.person = p.id", "Ann|9.5|\n"},
           {"SELECT name FROM names ORDER BY name DESC", "Bob|\nAnn|\n"},
           {"SELECT value FROM json_each('[1, 2]')", "1|\n2|\n"},
           {"WITH x AS (SELECT 1) SELECT count(*) FROM x", "1|\n"},
           {"SELECT 'NATURAL USING', name AS \"using\" FROM people WHERE id = 1 /* USING */",
            "NATURAL USING|Ann|\n"},
           {"SELECT v FROM keyed", "v|\n"},
           {"VALUES (1), (2)", "1|\n2|\n"},
       }) {
    SCOPED_TRACE(statement);
    const auto result = database_->Execute(statement, OptionsOf(Caller::kRestricted));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(Describe(*result), rows);
  }
  ExpectUntouched();
}

TEST_F(SqliteBypassTest, PermissionForNothingPermitsNoTable) {
  SqlCallOptions options;
  options.permitted.emplace();
  EXPECT_EQ(database_->Execute("SELECT 1 FROM people", options).status().code(), kDenied);
  EXPECT_TRUE(database_->Execute("SELECT 1", options).ok());
}

// A table may have the name of a function that is permitted as a table.
TEST_F(SqliteBypassTest, TablesNamedLikeTableValuedFunctionsArePrivate) {
  RunOnFile(path_, "CREATE TABLE json_each (value TEXT); INSERT INTO json_each VALUES ('secret')");
  const auto result =
      database_->Execute("SELECT value FROM json_each", OptionsOf(Caller::kRestricted));
  EXPECT_EQ(result.status().code(), kDenied) << result.status();
  EXPECT_TRUE(database_->Execute("SELECT value FROM json_each", {}).ok());
}

TEST_F(SqliteBypassTest, TableValuedFunctionsSurviveChangesOfTheSchema) {
  for (int i = 0; i < 3; ++i) {
    const auto result =
        database_->Execute("SELECT count(*) FROM json_each('[1, 2]'), people", OptionsOf(kFew));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(Describe(*result), "4|\n");
    RunOnFile(path_, absl::StrCat("CREATE TABLE more", i, " (a)"));
  }
}

TEST_F(SqliteBypassTest, CallsOfOneConnectionDoNotInheritPermissions) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(database_->Execute("SELECT ssn FROM people", {}).ok());
    EXPECT_EQ(database_->Execute("SELECT ssn FROM people", OptionsOf(kFew)).status().code(),
              kDenied);
  }
}

}  // namespace
}  // namespace octogate::gateway
