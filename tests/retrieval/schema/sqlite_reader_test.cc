#include "retrieval/schema/sqlite_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/retrieval/schema/test_schemas.h"

namespace octogate::schema {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// A database file made by the statements, removed at the end.
class SqliteReaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = absl::StrCat(::testing::TempDir(), "/reader_", getpid(), ".sqlite");
    std::filesystem::remove(path_);
  }
  void TearDown() override { std::filesystem::remove(path_); }

  void Make(const std::string& sql) {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &database), SQLITE_OK);
    char* error = nullptr;
    EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, &error), SQLITE_OK) << error;
    sqlite3_close(database);
  }

  std::string path_;
};

TEST_F(SqliteReaderTest, ReadsTablesKeysAndValues) {
  Make(R"(
    CREATE TABLE "cust""omers" (id INTEGER PRIMARY KEY, name TEXT, email TEXT, n INT);
    CREATE TABLE orders (a INT, b INT, c INT REFERENCES "cust""omers", PRIMARY KEY (a, b),
                         FOREIGN KEY (b, a) REFERENCES orders (a, b));
    CREATE VIEW v AS SELECT name AS view_name FROM "cust""omers";
    INSERT INTO "cust""omers" VALUES (1, 'Zoë', 'z@x', 3), (2, 'Ann', 'a@x', 4), (3, 'Ann', NULL, 3);
  )");
  const auto schema = ReadSqliteSchema(path_);
  ASSERT_TRUE(schema.ok()) << schema.status();
  ASSERT_THAT(schema->tables, SizeIs(3));
  const Table& customers = schema->tables[0];
  EXPECT_EQ(customers.name, "cust\"omers");
  EXPECT_TRUE(customers.columns[0].primary_key);
  EXPECT_THAT(customers.columns[1].values, ElementsAre("Ann", "Zoë"));
  EXPECT_FALSE(customers.columns[1].values_truncated);
  EXPECT_TRUE(customers.columns[2].sensitive);
  EXPECT_THAT(customers.columns[2].values, IsEmpty());
  EXPECT_THAT(customers.columns[3].values, ElementsAre("3", "4"));
  const Table& orders = schema->tables[1];
  EXPECT_TRUE(orders.columns[0].primary_key && orders.columns[1].primary_key);
  EXPECT_THAT(orders.foreign_keys, Contains(ForeignKey{{"c"}, "cust\"omers", {}}));
  EXPECT_THAT(orders.foreign_keys, Contains(ForeignKey{{"b", "a"}, "orders", {"a", "b"}}));
  EXPECT_EQ(schema->tables[2].columns[0].name, "view_name");
  EXPECT_THAT(schema->tables[2].columns[0].values, IsEmpty());
  EXPECT_TRUE(Catalog::Create(*schema).ok());
}

TEST_F(SqliteReaderTest, ReportsTruncation) {
  Make(R"(
    CREATE TABLE t (a TEXT, b TEXT);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
      INSERT INTO t SELECT 'value ' || i, CASE WHEN i = 7 THEN printf('%.*c', 300, 'x') END FROM n;
  )");
  auto schema = ReadSqliteSchema(path_, {.max_values_per_column = 100});
  ASSERT_TRUE(schema.ok()) << schema.status();
  EXPECT_THAT(schema->tables[0].columns[0].values, SizeIs(100));
  EXPECT_TRUE(schema->tables[0].columns[0].values_truncated);
  EXPECT_TRUE(schema->tables[0].columns[1].values_truncated);  // too long
  schema = ReadSqliteSchema(path_, {.max_values_per_column = 1000, .max_steps_per_column = 2000});
  ASSERT_TRUE(schema.ok()) << schema.status();
  EXPECT_TRUE(schema->tables[0].columns[0].values_truncated);
  EXPECT_THAT(schema->warnings, Contains(HasSubstr("are not complete")));
}

TEST_F(SqliteReaderTest, DoesNotRunViewsOrTrustTheSchema) {
  Make(R"(
    CREATE TABLE t (a TEXT);
    CREATE VIEW endless AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
      SELECT i FROM n;
    CREATE VIEW broken AS SELECT x FROM gone;
  )");
  const auto schema = ReadSqliteSchema(path_);
  ASSERT_TRUE(schema.ok()) << schema.status();
  EXPECT_THAT(schema->tables, SizeIs(3));
  EXPECT_THAT(schema->warnings, Contains(HasSubstr("broken")));
}

TEST_F(SqliteReaderTest, SaysWhatIsNoDatabase) {
  EXPECT_EQ(ReadSqliteSchema(path_).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadSqliteSchema(::testing::TempDir()).status().code(), absl::StatusCode::kNotFound);
  std::ofstream(path_) << "this is not a database, but a text of some length";
  const auto schema = ReadSqliteSchema(path_);
  EXPECT_EQ(schema.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(schema.status().message(), HasSubstr(path_));
}

TEST_F(SqliteReaderTest, SurvivesDamagedFiles) {
  Make(R"(
    CREATE TABLE t (a TEXT PRIMARY KEY, b INT REFERENCES u (x)); CREATE TABLE u (x, y);
    CREATE INDEX i ON u (y);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
      INSERT INTO t SELECT 'value ' || i, i FROM n;
  )");
  std::ifstream file(path_, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    std::string damaged = whole;
    for (int edits = 1 + static_cast<int>(random() % 20); edits > 0; --edits) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    if (random() % 4 == 0) damaged.resize(random() % damaged.size());
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << damaged;
    const auto schema = ReadSqliteSchema(path_, {.max_steps_per_column = 100'000});
    if (schema.ok()) {
      const auto catalog = Catalog::Create(*schema);
      EXPECT_TRUE(!catalog.ok() || (*catalog)->num_tables() <= schema->tables.size());
    }
  }
}

TEST(SqliteReader, ReadsChinook) {
  OCTOGATE_SKIP_WITHOUT_DATA(file, "text2sql/chinook/Chinook_Sqlite.sqlite");
  const auto schema = ReadSqliteSchema(file);
  ASSERT_TRUE(schema.ok()) << schema.status();
  EXPECT_EQ(schema->name, "Chinook_Sqlite");
  const auto catalog = MakeCatalog(*schema);
  EXPECT_EQ(catalog->num_tables(), 11U);
  size_t declared = 0;
  for (const KeyEdge& edge : catalog->edges()) declared += edge.kind == KeyKind::kDeclared ? 1 : 0;
  EXPECT_EQ(declared, 11U);
  const int genre = catalog->FindEntry("genre");
  ASSERT_GE(genre, 0);
  EXPECT_THAT(catalog->entries()[static_cast<size_t>(genre)]->columns[1].values, Contains("Jazz"));
}

}  // namespace
}  // namespace octogate::schema
