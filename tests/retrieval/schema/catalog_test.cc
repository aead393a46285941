#include "retrieval/schema/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
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

void ExpectSame(const Catalog& a, const Catalog& b) {
  EXPECT_EQ(a.version(), b.version());
  EXPECT_EQ(a.num_columns(), b.num_columns());
  EXPECT_EQ(a.edges(), b.edges());
  ASSERT_EQ(a.entries().size(), b.entries().size());
  for (size_t i = 0; i < a.entries().size(); ++i) {
    EXPECT_EQ(*a.entries()[i], *b.entries()[i]);
    EXPECT_EQ(a.entries()[i].members.size(), b.entries()[i].members.size());
    EXPECT_EQ(a.entries()[i].table->fingerprint, b.entries()[i].table->fingerprint);
    EXPECT_EQ(a.entries()[i].table->column_fingerprints, b.entries()[i].table->column_fingerprints);
  }
}

TEST(Catalog, OrdersTablesByNameWhateverOrderTheyCameIn) {
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  Schema schema = RandomSchema(random, 40);
  const auto catalog = MakeCatalog(schema);
  std::shuffle(schema.tables.begin(), schema.tables.end(), random);
  ExpectSame(*catalog, *MakeCatalog(schema));
  for (size_t i = 1; i < catalog->entries().size(); ++i) {
    EXPECT_LT(catalog->entries()[i - 1].first_column, catalog->num_columns());
  }
}

TEST(Catalog, AnUpdateEqualsARebuild) {
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  Schema schema = RandomSchema(random, 30);
  std::shared_ptr<const Catalog> catalog = MakeCatalog(schema);
  for (int round = 0; round < 30; ++round) {
    std::vector<Table> changed;
    std::vector<std::string> removed;
    Table& table = schema.tables[random() % schema.tables.size()];
    switch (random() % 4) {
      case 0:
        table.columns[0].description = absl::StrCat("changed ", round);
        changed.push_back(table);
        break;
      case 1:
        table.columns.push_back({.name = absl::StrCat("order_id_", round), .type = "integer"});
        changed.push_back(table);
        break;
      case 2:
        changed.push_back(table);
        changed.back().name = absl::StrCat("new_", round);
        schema.tables.push_back(changed.back());
        break;
      default:
        removed.push_back(table.name);
        std::swap(table, schema.tables.back());
        schema.tables.pop_back();
    }
    const std::string before = catalog->version();
    auto updated = catalog->Update(changed, removed);
    ASSERT_TRUE(updated.ok()) << updated.status();
    EXPECT_NE((*updated)->version(), before);
    catalog = *updated;
    ExpectSame(*catalog, *MakeCatalog(schema));
  }
}

TEST(Catalog, AnUpdateKeepsWhatDidNotChange) {
  const auto catalog = MakeCatalog(Shop());
  Schema shop = Shop();
  shop.tables[3].columns[1].description = "what it is called";
  const auto updated = catalog->Update(shop.tables);
  ASSERT_TRUE(updated.ok()) << updated.status();
  for (size_t i = 0; i < catalog->entries().size(); ++i) {
    const bool same = catalog->entries()[i].table == (*updated)->entries()[i].table;
    EXPECT_EQ(same, catalog->entries()[i]->name != "products");
  }
  EXPECT_EQ(catalog->Update({}, {"gone"}).status().code(), absl::StatusCode::kNotFound);
}

TEST(Catalog, FingerprintsChangeWithWhatIsRead) {
  const auto fingerprint = [](const Column& column) {
    return MakeCatalog({.name = "s", .tables = {{.name = "t", .columns = {column}}}})
        ->entries()[0]
        .table->column_fingerprints[0];
  };
  const Column column{.name = "a", .type = "text", .values = {"x", "y"}};
  for (const Column& other : std::vector<Column>{
           {.name = "b", .type = "text", .values = {"x", "y"}},
           {.name = "a", .type = "int", .values = {"x", "y"}},
           {.name = "a", .type = "text", .values = {"x"}},
           {.name = "a", .type = "text", .values = {"xy"}},
           {.name = "a", .type = "text", .description = "d", .values = {"x", "y"}},
           {.name = "a", .type = "text", .value_description = "d", .values = {"x", "y"}}}) {
    EXPECT_NE(fingerprint(column), fingerprint(other));
  }
  EXPECT_EQ(fingerprint(column), fingerprint(column));
}

TEST(Catalog, TablesThatDifferInDigitsAloneAreAFamily) {
  Schema schema{.name = "s"};
  for (const char* name : {"events_20240102", "events_20240101", "events_20231231", "events_x"}) {
    schema.tables.push_back({.name = name, .columns = {{.name = "user_id", .type = "text"}}});
  }
  schema.tables.push_back({.name = "events_7", .columns = {{.name = "other"}}});
  const auto catalog = MakeCatalog(schema);
  ASSERT_THAT(catalog->entries(), SizeIs(3));
  const int family = catalog->FindEntry("EVENTS_20231231");
  ASSERT_EQ(family, catalog->FindEntry("events_20240101"));
  const Entry& entry = catalog->entries()[static_cast<size_t>(family)];
  EXPECT_EQ(entry->name, "events_20240102");
  EXPECT_THAT(entry.members, SizeIs(3));
  EXPECT_EQ(catalog->num_columns(), 3U);
  EXPECT_EQ(catalog->num_raw_columns(), 5U);
  EXPECT_THAT(MakeCatalog(schema, {.families = false})->entries(), SizeIs(5));
}

TEST(Catalog, NeverKeepsValuesOfSensitiveColumns) {
  Schema schema{.name = "s"};
  schema.tables.push_back({.name = "t",
                           .columns = {{.name = "password_hash", .values = {"secret-1"}},
                                       {.name = "note", .values = {"secret-2"}, .sensitive = true},
                                       {.name = "city", .values = {"Oslo"}}}});
  const auto catalog = MakeCatalog(schema);
  EXPECT_THAT(catalog->entries()[0]->columns[0].values, IsEmpty());
  EXPECT_THAT(catalog->entries()[0]->columns[1].values, IsEmpty());
  EXPECT_THAT(catalog->entries()[0]->columns[2].values, ElementsAre("Oslo"));
}

TEST(Catalog, CapsValuesAndSaysSo) {
  Column column{.name = "c"};
  for (int i = 0; i < 9; ++i) column.values.push_back(absl::StrCat("v", i));
  Column odd{.name = "odd", .values = {"a", "a", "", "\xff", std::string(kMaxValueBytes + 1, 'x')}};
  const auto catalog =
      MakeCatalog({.name = "s", .tables = {{.name = "t", .columns = {column, odd}}}},
                  {.max_values_per_column = 4});
  EXPECT_THAT(catalog->entries()[0]->columns[0].values, SizeIs(4));
  EXPECT_TRUE(catalog->entries()[0]->columns[0].values_truncated);
  EXPECT_THAT(catalog->entries()[0]->columns[1].values, ElementsAre("a"));
  EXPECT_TRUE(catalog->entries()[0]->columns[1].values_truncated);
}

TEST(Catalog, RefusesBadSchemas) {
  const auto error = [](std::vector<Table> tables) {
    const auto catalog = Catalog::Create({.name = "s", .tables = std::move(tables)});
    return catalog.ok() ? "none" : std::string(catalog.status().message());
  };
  EXPECT_THAT(error({{.name = "t"}, {.name = "t"}}), HasSubstr("'t' is there twice"));
  EXPECT_THAT(error({{.name = "t", .columns = {{.name = "a"}, {.name = "a"}}}}),
              HasSubstr("the column 'a' is there twice"));
  EXPECT_THAT(error({{.name = ""}}), HasSubstr("is empty"));
  EXPECT_THAT(error({{.name = "a\nb"}}), HasSubstr("control characters"));
  EXPECT_THAT(error({{.name = std::string(kMaxNameBytes + 1, 'a')}}), HasSubstr("513 bytes"));
  EXPECT_THAT(error({{.name = "t", .foreign_keys = {{{"a", "b"}, "u", {"c"}}}}}),
              HasSubstr("has 2 columns that refer to 1"));
  std::vector<Column> many(kMaxColumnsPerTable + 1);
  EXPECT_THAT(error({{.name = "t", .columns = many}}), HasSubstr("at most 8192"));
}

TEST(Catalog, LeavesOutKeysToWhatIsNotThere) {
  const auto catalog =
      MakeCatalog({.name = "s",
                   .tables = {{.name = "t",
                               .columns = {{.name = "a"}},
                               .foreign_keys = {{{"a"}, "u", {}}, {{"b"}, "t", {"a"}}}}}});
  EXPECT_THAT(catalog->edges(), IsEmpty());
  EXPECT_THAT(catalog->warnings(), ElementsAre(HasSubstr("there is no such table"),
                                               HasSubstr("there is no column 'b'")));
}

TEST(Catalog, KeysOfSeveralColumnsAreOneGroup) {
  const auto catalog = MakeCatalog(
      {.name = "s",
       .tables = {
           {.name = "a",
            .columns = {{.name = "x"}, {.name = "y"}, {.name = "z"}},
            .foreign_keys = {{{"x", "y"}, "b", {}}, {{"z"}, "b", {"p"}}}},
           {.name = "b",
            .columns = {{.name = "p", .primary_key = true}, {.name = "q", .primary_key = true}}}}});
  ASSERT_THAT(catalog->edges(), SizeIs(3));
  EXPECT_EQ(catalog->edges()[0].group, catalog->edges()[1].group);
  EXPECT_NE(catalog->edges()[0].group, 0U);
  EXPECT_EQ(catalog->edges()[2].group, 0U);
}

}  // namespace
}  // namespace octogate::schema
