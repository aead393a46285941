#include "retrieval/schema/inferred_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/retrieval/schema/test_schemas.h"

namespace octogate::schema {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// "orders.customer_id > customers.id" for each inferred edge.
std::vector<std::string> Inferred(std::vector<Table> tables) {
  const auto catalog = MakeCatalog({.name = "s", .tables = std::move(tables)});
  std::vector<std::string> edges;
  for (const KeyEdge& edge : catalog->edges()) {
    if (edge.kind != KeyKind::kInferred) continue;
    const auto name = [&](ColumnId id) {
      return absl::StrCat(catalog->entries()[id.entry]->name, ".", catalog->column(id).name);
    };
    edges.push_back(absl::StrCat(name(edge.from), " > ", name(edge.to)));
  }
  return edges;
}

Column Key(const char* name, const char* type = "int") {
  return {.name = name, .type = type, .primary_key = true};
}
Column Plain(const char* name, const char* type = "int") { return {.name = name, .type = type}; }

TEST(InferredKeys, JoinEqualNamesToAPrimaryKey) {
  EXPECT_THAT(Inferred({{.name = "products", .columns = {Key("product_id")}},
                        {.name = "reviews", .columns = {Plain("ProductID")}}}),
              UnorderedElementsAre("reviews.ProductID > products.product_id"));
}

TEST(InferredKeys, JoinAColumnToTheTableItNames) {
  EXPECT_THAT(
      Inferred({{.name = "countries", .columns = {Key("id"), Plain("name")}},
                {.name = "cities", .columns = {Key("id"), Plain("country_id")}},
                {.name = "towns", .columns = {Key("id"), Plain("countryid")}}}),
      UnorderedElementsAre("cities.country_id > countries.id", "towns.countryid > countries.id"));
}

TEST(InferredKeys, JoinColumnsOfOneNameWithoutAPrimaryKey) {
  EXPECT_THAT(Inferred({{.name = "a", .columns = {Plain("stop_code")}},
                        {.name = "b", .columns = {Plain("stop_code")}}}),
              UnorderedElementsAre("b.stop_code > a.stop_code"));
}

TEST(InferredKeys, DoNotJoinNamesThatSayNothing) {
  EXPECT_THAT(Inferred({{.name = "a", .columns = {Key("id"), Plain("name", "text")}},
                        {.name = "b", .columns = {Key("id"), Plain("name", "text")}}}),
              IsEmpty());
}

TEST(InferredKeys, DoNotJoinOtherTypesOrValues) {
  EXPECT_THAT(Inferred({{.name = "products", .columns = {Key("product_id")}},
                        {.name = "reviews", .columns = {Plain("product_id", "text")}}}),
              IsEmpty());
  Column few = Key("kind_code", "text");
  few.values = {"a", "b"};
  Column others = Plain("kind_code", "text");
  others.values = {"x", "y", "a"};
  EXPECT_THAT(
      Inferred({{.name = "kinds", .columns = {few}}, {.name = "things", .columns = {others}}}),
      IsEmpty());
  others.values = {"a", "b", "c"};
  EXPECT_THAT(
      Inferred({{.name = "kinds", .columns = {few}}, {.name = "things", .columns = {others}}}),
      UnorderedElementsAre("things.kind_code > kinds.kind_code"));
}

TEST(InferredKeys, DoNotRepeatDeclaredOnes) {
  EXPECT_THAT(Inferred({{.name = "products", .columns = {Key("product_id")}},
                        {.name = "reviews",
                         .columns = {Plain("product_id")},
                         .foreign_keys = {{{"product_id"}, "products", {}}}}}),
              IsEmpty());
}

TEST(InferredKeys, DoNotJoinWhatEveryTableHas) {
  std::vector<Table> tables;
  for (int i = 0; i < 10; ++i) {
    tables.push_back(
        {.name = std::string(1, static_cast<char>('a' + i)), .columns = {Plain("batch_id")}});
  }
  EXPECT_THAT(Inferred(tables), IsEmpty());
}

TEST(ClassOf, KnowsTypesOfSeveralDatabases) {
  EXPECT_EQ(ClassOf("character varying(80)"), TypeClass::kText);
  EXPECT_EQ(ClassOf("BIGINT"), TypeClass::kNumber);
  EXPECT_EQ(ClassOf("timestamp with time zone"), TypeClass::kTime);
  EXPECT_EQ(ClassOf("boolean"), TypeClass::kBoolean);
  EXPECT_EQ(ClassOf(""), TypeClass::kUnknown);
  EXPECT_EQ(ClassOf("geometry"), TypeClass::kOther);
}

}  // namespace
}  // namespace octogate::schema
