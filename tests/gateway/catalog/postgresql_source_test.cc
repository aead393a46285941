// Catalogs that are read from a real PostgreSQL server, started for these tests.
#include "gateway/catalog/postgresql_source.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gateway/catalog/catalog_info.h"
#include "gateway/catalog/catalog_set.h"
#include "gateway/catalog/linking.h"
#include "gateway/catalog/sql_run.h"
#include "gateway/sql/postgresql_database.h"
#include "tests/gateway/sql/postgresql_server.h"

namespace octogate::gateway {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

absl::Time Soon() { return absl::Now() + absl::Minutes(5); }

class PostgresqlSourceTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = PostgresqlServer::Start(&why_not_).release();
    if (server_ == nullptr) return;
    server_->Administer(R"(
      CREATE ROLE reader LOGIN; CREATE ROLE nobody LOGIN;
      CREATE TABLE firm (id int PRIMARY KEY, "Full Name" text, country varchar(40));
      COMMENT ON TABLE firm IS 'who buys'; COMMENT ON COLUMN firm.country IS 'where it is registered';
      CREATE TABLE person (firm_id int, id int, boss int, email text, wage numeric(8, 2), photo bytea,
        note text, PRIMARY KEY (firm_id, id),
        FOREIGN KEY (firm_id) REFERENCES firm (id),
        FOREIGN KEY (firm_id, boss) REFERENCES person (firm_id, id));
      CREATE TABLE secret (code text);
      CREATE TABLE reading (day date, value real) PARTITION BY RANGE (day);
      CREATE TABLE reading_2024 PARTITION OF reading FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
      CREATE VIEW norse AS SELECT * FROM firm WHERE country = 'Norway';
      CREATE SCHEMA hidden; CREATE TABLE hidden.chest (gold int);
      GRANT USAGE ON SCHEMA hidden TO reader; GRANT SELECT ON hidden.chest TO reader;
      INSERT INTO firm VALUES (1, 'Zoë & Co', 'Norway'), (2, 'Quote "x"', 'Peru'), (3, '', NULL);
      INSERT INTO person VALUES (1, 1, NULL, 'a@example.org', 10.5, '\x00', 'first');
      GRANT SELECT ON firm, person, reading, norse TO reader;
      REVOKE SELECT ON person FROM reader;
      GRANT SELECT (firm_id, id, boss, email, photo, note) ON person TO reader;
      ANALYZE;
    )");
    setenv("OCTOGATE_TEST_DSN", server_->ConnectionAs("reader").c_str(), 1);
  }
  static void TearDownTestSuite() { delete server_; }

  void SetUp() override {
    if (server_ == nullptr) GTEST_SKIP() << why_not_;
  }

  static std::unique_ptr<SqlDatabase> Open(const std::string& role = "reader") {
    auto database = OpenPostgresqlDatabase({.connection = server_->ConnectionAs(role)});
    EXPECT_TRUE(database.ok()) << database.status();
    return *std::move(database);
  }
  static schema::Schema Read(SqlDatabase& database) {
    auto schema = ReadPostgresqlSchema(database, Soon());
    EXPECT_TRUE(schema.ok()) << schema.status();
    return schema.ok() ? *std::move(schema) : schema::Schema();
  }
  static std::vector<std::string> Tables(const schema::Schema& schema) {
    std::vector<std::string> names;
    for (const schema::Table& table : schema.tables) names.push_back(table.name);
    return names;
  }
  static const schema::Table& TableOf(const schema::Schema& schema, const std::string& name) {
    const int table = schema::FindTable(schema, name);
    EXPECT_GE(table, 0) << name;
    return schema.tables.at(static_cast<size_t>(table));
  }
  static const schema::Column& ColumnOf(const schema::Schema& schema, const std::string& table,
                                        const std::string& name) {
    const int column = schema::FindColumn(TableOf(schema, table), name);
    EXPECT_GE(column, 0) << name;
    return TableOf(schema, table).columns.at(static_cast<size_t>(column));
  }

  static inline PostgresqlServer* server_ = nullptr;
  static inline std::string why_not_;
};

TEST_F(PostgresqlSourceTest, TablesAreThoseThatTheRoleReads) {
  const auto database = Open();
  const schema::Schema schema = Read(*database);
  EXPECT_EQ(schema.name, server_->Value("SELECT current_database()"));
  EXPECT_THAT(Tables(schema), ElementsAre("firm", "norse", "person", "reading"));
  EXPECT_EQ(TableOf(schema, "firm").description, "who buys");
  EXPECT_EQ(TableOf(schema, "firm").rows, 3);
  EXPECT_EQ(TableOf(schema, "norse").rows, -1);
  EXPECT_EQ(ColumnOf(schema, "firm", "country").description, "where it is registered");
  EXPECT_EQ(ColumnOf(schema, "firm", "country").type, "character varying(40)");
  EXPECT_TRUE(ColumnOf(schema, "firm", "id").primary_key);
  EXPECT_FALSE(ColumnOf(schema, "firm", "Full Name").primary_key);
  // Of a table it may read in part, that part.
  EXPECT_THAT(TableOf(schema, "person").columns, SizeIs(6));
  EXPECT_LT(schema::FindColumn(TableOf(schema, "person"), "wage"), 0);
  EXPECT_TRUE(ColumnOf(schema, "person", "email").sensitive);
  ASSERT_THAT(schema.warnings, SizeIs(1));
  EXPECT_THAT(schema.warnings[0], HasSubstr("1 tables of other schemas are left out"));
  EXPECT_THAT(schema.warnings[0], HasSubstr("'hidden'"));
}

TEST_F(PostgresqlSourceTest, KeysHaveAllOfTheirColumns) {
  const auto database = Open();
  const schema::Schema schema = Read(*database);
  EXPECT_THAT(TableOf(schema, "firm").foreign_keys, IsEmpty());
  EXPECT_THAT(TableOf(schema, "person").foreign_keys,
              testing::UnorderedElementsAre(
                  schema::ForeignKey{{"firm_id"}, "firm", {"id"}},
                  schema::ForeignKey{{"firm_id", "boss"}, "person", {"firm_id", "id"}}));
}

TEST_F(PostgresqlSourceTest, ValuesAreReadOfTablesAndNotOfWhatIsSensitive) {
  const auto database = Open();
  schema::Schema schema = Read(*database);
  ReadPostgresqlValues(*database, {}, Soon(), &schema);
  EXPECT_THAT(ColumnOf(schema, "firm", "country").values, ElementsAre("Norway", "Peru"));
  EXPECT_FALSE(ColumnOf(schema, "firm", "country").values_truncated);
  EXPECT_THAT(ColumnOf(schema, "firm", "Full Name").values, ElementsAre("Quote \"x\"", "Zoë & Co"));
  EXPECT_THAT(ColumnOf(schema, "person", "note").values, ElementsAre("first"));
  EXPECT_THAT(ColumnOf(schema, "person", "email").values, IsEmpty());
  EXPECT_THAT(ColumnOf(schema, "person", "photo").values, IsEmpty());
  EXPECT_THAT(ColumnOf(schema, "norse", "country").values, IsEmpty());
  EXPECT_TRUE(ColumnOf(schema, "norse", "country").values_truncated);
  EXPECT_THAT(schema.warnings, SizeIs(1));

  schema::Schema one = Read(*database);
  ReadPostgresqlValues(*database, {.max_values_per_column = 1}, Soon(), &one);
  EXPECT_THAT(ColumnOf(one, "firm", "country").values, SizeIs(1));
  EXPECT_TRUE(ColumnOf(one, "firm", "country").values_truncated);

  schema::Schema none = Read(*database);
  ReadPostgresqlValues(*database, {.max_values_per_column = 0}, Soon(), &none);
  EXPECT_THAT(ColumnOf(none, "firm", "country").values, IsEmpty());
}

TEST_F(PostgresqlSourceTest, ValuesThatDoNotComeInTimeAreLeftOut) {
  const auto database = Open();
  schema::Schema schema = Read(*database);
  ReadPostgresqlValues(*database, {}, absl::InfinitePast(), &schema);
  EXPECT_THAT(ColumnOf(schema, "firm", "country").values, IsEmpty());
  EXPECT_THAT(schema.warnings, Contains(HasSubstr("values of 'firm' are not complete")));
  EXPECT_EQ(ReadPostgresqlSchema(*database, absl::InfinitePast()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(PostgresqlSourceTest, ARoleWithoutRightsSeesNothing) {
  const auto database = Open("nobody");
  EXPECT_THAT(Read(*database).tables, IsEmpty());
}

TEST_F(PostgresqlSourceTest, ACatalogWithoutAFileIsReadFromItsServer) {
  v1::Catalog spec;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "name: 'firms' postgresql: 'OCTOGATE_TEST_DSN' max_values: 100 sensitive: 'person.note'",
      &spec));
  const auto read = CatalogHandle::Read(spec, testing::TempDir(), nullptr, nullptr, Soon());
  ASSERT_TRUE(read.ok()) << read.status();
  const std::shared_ptr<const CatalogSnapshot> snapshot = (*read)->snapshot();
  EXPECT_EQ(snapshot->catalog->num_tables(), 4U);
  EXPECT_FALSE(snapshot->SourceChanged());
  EXPECT_NE((*read)->database(), nullptr);
  v1::Graph graph;
  EXPECT_EQ(CatalogInfoOf(**read, graph).source(), "postgresql OCTOGATE_TEST_DSN");
  const schema::Table& person =
      *snapshot->catalog->entries()[static_cast<size_t>(snapshot->catalog->FindEntry("person"))];
  for (const schema::Column& column : person.columns) {
    EXPECT_THAT(column.values, Not(Contains("first"))) << column.name;
  }
  v1::LinkSchemaRequest request;
  request.set_question("which firms are from Norway?");
  request.mutable_settings()->set_mode(v1::LINK_MODE_FOCUSED);
  const auto link = LinkCatalog(**read, request, {.deadline = Soon(), .tenant = "t"});
  ASSERT_TRUE(link.ok()) << link.status();
  EXPECT_THAT(link->rendered(), HasSubstr("'Norway'"));

  // What is linked can be read.
  v1::SqlNode sql;
  sql.set_max_rows(10);
  sql.set_max_bytes(4096);
  sql.set_timeout_ms(60'000);
  const auto rows = RunSql(sql, **read, "SELECT \"Full Name\" FROM firm WHERE country = 'Norway'",
                           "t", Soon(), nullptr);
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_THAT(*rows, HasSubstr("Zoë & Co"));

  // A refresh asks the server again.
  server_->Administer("CREATE TABLE added (what text); GRANT SELECT ON added TO reader");
  const auto changes = (*read)->Refresh(Soon());
  ASSERT_TRUE(changes.ok()) << changes.status();
  EXPECT_THAT(changes->added, ElementsAre("added"));
  EXPECT_THAT(changes->changed, IsEmpty());
  server_->Administer("DROP TABLE added");
}

TEST_F(PostgresqlSourceTest, WithoutItsVariableThereIsNoCatalog) {
  v1::Catalog spec;
  spec.set_name("firms");
  spec.set_postgresql("OCTOGATE_TEST_NO_SUCH_DSN");
  const auto read = CatalogHandle::Read(spec, testing::TempDir(), nullptr, nullptr, Soon());
  EXPECT_EQ(read.status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace octogate::gateway
