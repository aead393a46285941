// Links that are limited to tables which somebody else has chosen.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "retrieval/schema/linker.h"
#include "tests/retrieval/schema/test_schemas.h"

namespace octogate::schema {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;

uint32_t EntryOf(const LinkIndex& index, const std::string& table) {
  const int entry = index.catalog().FindEntry(table);
  EXPECT_GE(entry, 0) << table;
  return static_cast<uint32_t>(entry);
}

LinkResult LinkOrDie(const LinkIndex& index, const LinkRequest& request,
                     const Permissions& permissions = {}) {
  const auto visible = index.See(permissions);
  EXPECT_TRUE(visible.ok()) << visible.status();
  auto result = Link(index, *visible, request);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : LinkResult();
}

std::vector<std::string> TablesOf(const LinkResult& result) {
  std::vector<std::string> names;
  for (const LinkedTable& table : result.tables) names.push_back(table.name);
  return names;
}

TEST(LinkedTables, OthersAreLeftOutHoweverWellTheyMatch) {
  const auto index = LinkIndex::Build(MakeCatalog(Shop()));
  LinkRequest request{.question = "full name and country of the customers",
                      .token_budget = 4096,
                      .tables = {EntryOf(*index, "products")}};
  const LinkResult result = LinkOrDie(*index, request);
  EXPECT_EQ(result.mode, LinkResult::kFocused);  // though all of the schema would fit
  EXPECT_THAT(TablesOf(result), ElementsAre("products"));
  EXPECT_THAT(result.rendered, Not(HasSubstr("customers")));
  EXPECT_THAT(result.allowed_identifiers, Not(Contains("full_name")));
  // What matched elsewhere is said to be left out, the best first.
  ASSERT_FALSE(result.dropped.empty());
  EXPECT_THAT(result.dropped[0].name, HasSubstr("customers."));
}

TEST(LinkedTables, AllOfTheirColumnsAreShownWhereThereIsRoom) {
  const auto index = LinkIndex::Build(MakeCatalog(Shop()));
  LinkRequest request{.question = "zzz", .tables = {EntryOf(*index, "customers")}};
  const LinkResult all = LinkOrDie(*index, request);
  ASSERT_THAT(TablesOf(all), ElementsAre("customers"));
  EXPECT_EQ(all.tables[0].columns.size(), 4U);
  request.max_columns = 2;
  const LinkResult two = LinkOrDie(*index, request);
  ASSERT_THAT(TablesOf(two), ElementsAre("customers"));
  EXPECT_EQ(two.tables[0].columns.size(), 2U);
}

TEST(LinkedTables, TablesThatJoinThemComeWithTheirKeys) {
  const auto index = LinkIndex::Build(MakeCatalog(Shop()));
  const LinkRequest request{.question = "which products did people from France buy?",
                            .tables = {EntryOf(*index, "customers"), EntryOf(*index, "products")}};
  const LinkResult result = LinkOrDie(*index, request);
  EXPECT_THAT(TablesOf(result), IsSupersetOf({"customers", "orders", "order_lines", "products"}));
  EXPECT_THAT(result.disconnected, IsEmpty());
  EXPECT_THAT(result.allowed_identifiers, Not(Contains("status")));
  EXPECT_THAT(result.allowed_identifiers, Not(Contains("quantity")));
}

// Whatever is asked of whatever schema: nothing but columns of the tables and keys, and every table
// is there that has a column, as long as the text has room.
TEST(LinkedTables, AreAllThatIsKeptOfAnySchema) {
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 40; ++round) {
    const auto index =
        LinkIndex::Build(MakeCatalog(RandomSchema(random, 2 + static_cast<int>(random() % 30))));
    const auto& entries = index->catalog().entries();
    std::set<uint32_t> chosen;
    for (size_t i = 0, n = 1 + random() % 5; i < n; ++i) {
      chosen.insert(static_cast<uint32_t>(random() % entries.size()));
    }
    std::set<ColumnId> keys;
    for (const KeyEdge& edge : index->catalog().edges()) {
      keys.insert(edge.from);
      keys.insert(edge.to);
    }
    LinkRequest request{.question = "the price of products by country and team and date",
                        .token_budget = 100'000,
                        .max_columns = 200,
                        .tables = {chosen.begin(), chosen.end()}};
    std::shuffle(request.tables.begin(), request.tables.end(), random);
    const LinkResult result = LinkOrDie(*index, request);
    std::set<uint32_t> shown;
    for (const LinkedTable& table : result.tables) {
      shown.insert(table.entry);
      if (chosen.contains(table.entry)) continue;
      for (const LinkedColumn& column : table.columns) {
        EXPECT_TRUE(keys.contains(column.id) || index->catalog().column(column.id).primary_key)
            << table.name << "." << column.name;
      }
    }
    for (const uint32_t entry : chosen) {
      if (!entries[entry]->columns.empty()) {
        EXPECT_THAT(shown, Contains(entry));
      }
    }
  }
}

TEST(LinkedTables, WhatMayNotBeSeenIsNotShown) {
  const auto index = LinkIndex::Build(MakeCatalog(Shop()));
  Permissions permissions;
  permissions.tables = {"orders", "customers"};
  permissions.columns["customers"] = {"id"};
  const LinkRequest request{.question = "products and customers",
                            .tables = {EntryOf(*index, "customers"), EntryOf(*index, "products")}};
  const LinkResult result = LinkOrDie(*index, request, permissions);
  EXPECT_THAT(TablesOf(result), ElementsAre("customers"));
  EXPECT_EQ(result.tables[0].columns.size(), 1U);
}

TEST(LinkedTables, MustBeThereAndFew) {
  const auto index = LinkIndex::Build(MakeCatalog(Shop()));
  const auto visible = index->See({});
  ASSERT_TRUE(visible.ok());
  for (const std::vector<uint32_t>& tables :
       {std::vector<uint32_t>{99}, std::vector<uint32_t>{0, 0},
        std::vector<uint32_t>(kMaxLinkedTables + 1, 0)}) {
    const auto result = Link(*index, *visible, {.question = "orders", .tables = tables});
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace octogate::schema
