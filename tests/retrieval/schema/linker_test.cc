#include "retrieval/schema/linker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "retrieval/schema/sqlite_reader.h"
#include "tests/retrieval/schema/test_schemas.h"

namespace octogate::schema {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

LinkResult LinkOrDie(const LinkIndex& index, const LinkRequest& request,
                     const Permissions& permissions = {}, const LinkOptions& options = {}) {
  const auto visible = index.See(permissions);
  EXPECT_TRUE(visible.ok()) << visible.status();
  auto result = Link(index, *visible, request, options);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : LinkResult();
}

std::vector<std::string> ColumnsOf(const LinkResult& result) {
  std::vector<std::string> names;
  for (const LinkedTable& table : result.tables) {
    for (const LinkedColumn& column : table.columns) {
      names.push_back(absl::StrCat(table.name, ".", column.name));
    }
  }
  return names;
}

// All of the result but times, for comparison.
std::string Everything(const LinkResult& result) {
  std::string text = absl::StrCat(result.mode, "\n", result.rendered, "\n");
  for (const LinkedTable& table : result.tables) {
    absl::StrAppend(&text, table.name, " ", table.score, "\n");
    for (const std::string& member : table.family_members) absl::StrAppend(&text, member, "\n");
    for (const LinkedColumn& column : table.columns) {
      absl::StrAppend(&text, column.name, " ", column.score, " ",
                      absl::string_view(Name(column.reason).data(), Name(column.reason).size()),
                      "\n");
      for (const std::string& term : column.matched_terms) absl::StrAppend(&text, term, "\n");
      for (const MatchedValue& value : column.matched_values) {
        absl::StrAppend(&text, value.literal, "=", value.stored, "\n");
      }
    }
  }
  for (const Join& join : result.joins) absl::StrAppend(&text, join.left, "=", join.right, "\n");
  for (const Dropped& dropped : result.dropped) {
    absl::StrAppend(&text, dropped.name, " ", dropped.score, "\n");
  }
  for (const auto* list :
       {&result.disconnected, &result.truncated_values, &result.allowed_identifiers}) {
    for (const std::string& name : *list) absl::StrAppend(&text, name, "\n");
  }
  absl::StrAppend(&text, result.tokens.full, " ", result.tokens.rendered);
  return text;
}

TEST(Linker, FindsTablesColumnsJoinsAndStoredValues) {
  const auto index = LinkIndex::Build(MakeCatalog(Shop()));
  const LinkResult result =
      LinkOrDie(*index, {.question = "How many pieces were ordered by customers from new zealand?",
                         .mode = LinkMode::kFocused,
                         .max_columns = 10});
  EXPECT_EQ(result.mode, LinkResult::kFocused);
  EXPECT_EQ(result.catalog_version, index->catalog().version());
  EXPECT_THAT(
      ColumnsOf(result),
      ::testing::IsSupersetOf({"customers.id", "customers.country", "orders.customer_id",
                               "orders.order_id", "order_lines.order_id", "order_lines.quantity"}));
  std::vector<std::string> joins;
  for (const Join& join : result.joins) joins.push_back(absl::StrCat(join.left, "=", join.right));
  EXPECT_THAT(joins, Contains("orders.customer_id=customers.id"));
  EXPECT_THAT(joins, Contains("order_lines.order_id=orders.order_id"));
  for (const LinkedTable& table : result.tables) {
    for (const LinkedColumn& column : table.columns) {
      if (column.name != "country") continue;
      ASSERT_EQ(column.matched_values.size(), 1U);
      EXPECT_EQ(column.matched_values[0].literal, "new zealand");
      EXPECT_EQ(column.matched_values[0].stored, "New Zealand");
      const ScoreParts& parts = column.parts;
      EXPECT_NEAR(column.score,
                  parts.bm25 + parts.character + parts.dense + parts.value + parts.name +
                      parts.table + parts.cue,
                  1e-5);
    }
  }
  EXPECT_THAT(result.rendered, HasSubstr("'New Zealand'"));
  EXPECT_THAT(result.allowed_identifiers, Contains("order_lines"));
  EXPECT_LE(ColumnsOf(result).size(), 10U);
}

TEST(Linker, ShowsEverythingWhereItFits) {
  const auto index = LinkIndex::Build(MakeCatalog(Shop()));
  const LinkRequest request{.question = "orders of Ada", .token_budget = 2000};
  const LinkResult full = LinkOrDie(*index, request);
  EXPECT_EQ(full.mode, LinkResult::kFull);
  EXPECT_EQ(ColumnsOf(full).size(), 18U);
  EXPECT_EQ(full.tokens.full, full.tokens.rendered);
  EXPECT_THAT(full.dropped, IsEmpty());
  LinkRequest small = request;
  small.token_budget = full.tokens.full - 1;
  const LinkResult focused = LinkOrDie(*index, small);
  EXPECT_EQ(focused.mode, LinkResult::kFocused);
  EXPECT_LE(focused.tokens.rendered, small.token_budget);
}

TEST(Linker, KeepsFewerColumnsWhereEachCosts) {
  std::mt19937_64 random(7);
  const auto index = LinkIndex::Build(MakeCatalog(RandomSchema(random, 40)));
  LinkRequest request{.question = "the price of products by country and team and date",
                      .mode = LinkMode::kFocused,
                      .recall = Recall::kMinimal};
  const size_t minimal = ColumnsOf(LinkOrDie(*index, request)).size();
  request.recall = Recall::kConservative;
  const LinkResult conservative = LinkOrDie(*index, request);
  EXPECT_LT(minimal, ColumnsOf(conservative).size());
  EXPECT_GT(conservative.num_dropped, 0U);
  EXPECT_FALSE(conservative.dropped.empty());
}

TEST(Linker, FallsBackToWhatFitsWhereNothingMatches) {
  const auto index = LinkIndex::Build(MakeCatalog(Shop()));
  const LinkResult result =
      LinkOrDie(*index, {.question = "zzz", .mode = LinkMode::kFocused, .token_budget = 60});
  EXPECT_EQ(result.mode, LinkResult::kFallback);
  EXPECT_FALSE(result.tables.empty());
  EXPECT_LE(result.tokens.rendered, 60U);
}

TEST(Linker, GivesTheSameLinksWhateverTheOrderOfItsInput) {
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 10; ++round) {
    Schema schema = RandomSchema(random, 60);
    const LinkRequest request{.question = "order date of the customer and the price by country",
                              .mode = LinkMode::kFocused};
    const std::string first =
        Everything(LinkOrDie(*LinkIndex::Build(MakeCatalog(schema)), request));
    std::shuffle(schema.tables.begin(), schema.tables.end(), random);
    EXPECT_EQ(first, Everything(LinkOrDie(*LinkIndex::Build(MakeCatalog(schema)), request)));
  }
}

TEST(Linker, AnIndexBuiltOnAnotherLinksAsOneBuiltAnew) {
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  Schema schema = RandomSchema(random, 120);
  std::shared_ptr<const Catalog> catalog = MakeCatalog(schema);
  std::shared_ptr<const LinkIndex> index = LinkIndex::Build(catalog);
  for (int round = 0; round < 20; ++round) {
    Table& table = schema.tables[random() % schema.tables.size()];
    std::vector<std::string> removed;
    std::vector<Table> changed;
    if (random() % 3 == 0) {
      removed.push_back(table.name);
      std::swap(table, schema.tables.back());
      schema.tables.pop_back();
    } else {
      table.columns[0].description = absl::StrCat("customer price ", round);
      changed.push_back(table);
    }
    const auto updated = catalog->Update(changed, removed);
    ASSERT_TRUE(updated.ok()) << updated.status();
    catalog = *updated;
    index = LinkIndex::Build(catalog, index.get());
    const LinkRequest request{.question = "price of the customer by region 3",
                              .mode = LinkMode::kFocused};
    EXPECT_EQ(Everything(LinkOrDie(*index, request)),
              Everything(LinkOrDie(*LinkIndex::Build(MakeCatalog(schema)), request)));
  }
}

// Every forbidden table, column, description and value carries a mark, which shows nowhere. And
// what is forbidden might as well not be there: links are those of a catalog without it.
TEST(Linker, WhatIsForbiddenShowsNowhere) {
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 20; ++round) {
    Schema schema = RandomSchema(random, 40);
    Schema reduced{.name = schema.name};
    Permissions permissions;
    permissions.tables.emplace();
    for (Table& table : schema.tables) {
      if (random() % 3 == 0) {
        table.name = absl::StrCat("forbidden_", table.name);
        for (Column& column : table.columns) {
          column.name = absl::StrCat("forbidden_", column.name);
          column.values.push_back("forbidden price");
        }
        table.foreign_keys.clear();
      }
    }
    for (Table& table : schema.tables) {
      const bool allowed = !absl::StartsWith(table.name, "forbidden_");
      if (allowed && random() % 2 == 0 && table.columns.size() > 1 && table.foreign_keys.empty()) {
        Column& column = table.columns[1];
        column.name = absl::StrCat("forbidden_", column.name);
        column.description = "the forbidden price of the customer";
        column.values = {"forbidden", "price 1"};
        for (const Column& kept : table.columns) {
          if (&kept != &column) permissions.columns[table.name].push_back(kept.name);
        }
      }
      for (ForeignKey& key : table.foreign_keys) {
        if (FindTable(schema, key.table) < 0) key.table = table.name;
      }
      if (!allowed) continue;
      permissions.tables->push_back(table.name);
      reduced.tables.push_back(table);
      std::erase_if(reduced.tables.back().columns, [](const Column& column) {
        return absl::StartsWith(column.name, "forbidden_");
      });
    }
    const CatalogOptions options{.infer_keys = false, .families = false};
    const auto index = LinkIndex::Build(MakeCatalog(schema, options));
    const auto without = LinkIndex::Build(MakeCatalog(reduced, options));
    for (const LinkMode mode : {LinkMode::kAuto, LinkMode::kFocused}) {
      const LinkRequest request{.question = "the secret price of each customer",
                                .mode = mode,
                                .token_budget = 100 + random() % 4000,
                                .max_dropped = 1000};
      const std::string linked = Everything(LinkOrDie(*index, request, permissions));
      EXPECT_THAT(linked, Not(HasSubstr("forbidden")));
      EXPECT_EQ(linked, Everything(LinkOrDie(*without, request)));
    }
  }
}

TEST(Linker, ShowsOfAFamilyOnlyMembersThatAreAllowed) {
  Schema schema{.name = "s"};
  for (const char* day : {"01", "02", "03"}) {
    schema.tables.push_back(
        {.name = absl::StrCat("events_202401", day),
         .description = absl::StrCat("events of day ", day),
         .columns = {{.name = "user_id", .type = "text"},
                     {.name = "city", .type = "text", .values = {absl::StrCat("Town ", day)}}}});
  }
  const auto index = LinkIndex::Build(MakeCatalog(schema));
  for (const LinkMode mode : {LinkMode::kAuto, LinkMode::kFocused}) {
    const LinkRequest request{.question = "events in the city of Town 03", .mode = mode};
    const LinkResult all = LinkOrDie(*index, request);
    EXPECT_THAT(all.rendered, HasSubstr("one of 3 tables alike"));
    EXPECT_THAT(all.rendered, HasSubstr("Town 03"));
    const LinkResult some =
        LinkOrDie(*index, request, {.tables = {{"events_20240101", "events_20240102"}}});
    ASSERT_EQ(some.tables.size(), 1U);
    EXPECT_EQ(some.tables[0].name, "events_20240102");
    EXPECT_THAT(some.tables[0].family_members, ElementsAre("events_20240101", "events_20240102"));
    EXPECT_THAT(Everything(some), Not(HasSubstr("Town 03=")));
    EXPECT_THAT(Everything(some), Not(HasSubstr("20240103")));
    EXPECT_THAT(some.rendered, Not(HasSubstr("Town 03")));
    EXPECT_THAT(some.rendered, Not(HasSubstr("day 03")));
  }
}

// A key of several columns is shown whole or not at all: half of one is a wrong join, and tells of
// what is hidden.
TEST(Linker, ShowsNoPartOfAKeyOfSeveralColumns) {
  const auto index = LinkIndex::Build(
      MakeCatalog({.name = "s",
                   .tables = {{.name = "lines",
                               .columns = {{.name = "shop", .type = "int"},
                                           {.name = "number", .type = "int"},
                                           {.name = "amount", .type = "int"}},
                               .foreign_keys = {{{"shop", "number"}, "receipts", {}}}},
                              {.name = "receipts",
                               .columns = {{.name = "branch", .type = "int", .primary_key = true},
                                           {.name = "running", .type = "int", .primary_key = true},
                                           {.name = "cashier", .type = "text"}}}}}));
  for (const RenderStyle style : {RenderStyle::kDdl, RenderStyle::kList}) {
    for (const LinkMode mode : {LinkMode::kAuto, LinkMode::kFocused}) {
      const LinkRequest request{.question = "amount of the lines of receipts by cashier and shop",
                                .mode = mode,
                                .style = style};
      EXPECT_EQ(LinkOrDie(*index, request).joins.size(), 2U);
      for (const auto& [table, columns] : std::map<std::string, std::vector<std::string>>{
               {"lines", {"shop", "amount"}}, {"receipts", {"running", "cashier"}}}) {
        const LinkResult result = LinkOrDie(*index, request, {.columns = {{table, columns}}});
        EXPECT_TRUE(result.joins.empty());
        EXPECT_THAT(result.rendered, Not(HasSubstr("FOREIGN")));
        EXPECT_THAT(result.rendered, Not(HasSubstr("Foreign_keys")));
        EXPECT_EQ(result.tables.size(), 2U);
      }
      // Nor where the budget ends within it.
      for (size_t budget = 1; budget < 80; ++budget) {
        LinkRequest small = request;
        small.mode = LinkMode::kFocused;
        small.token_budget = budget;
        EXPECT_NE(LinkOrDie(*index, small).joins.size(), 1U);
      }
    }
  }
}

// orders(tenant, billing) and orders(tenant, shipping) refer to addresses(tenant, id).
TEST(Linker, KeysThatShareAColumnAreEachWholeOrNotShown) {
  const auto index = LinkIndex::Build(MakeCatalog(
      {.name = "s",
       .tables = {{.name = "addresses",
                   .columns = {{.name = "tenant", .type = "int", .primary_key = true},
                               {.name = "id", .type = "int", .primary_key = true}}},
                  {.name = "orders",
                   .columns = {{.name = "tenant", .type = "int"},
                               {.name = "billing", .type = "int"},
                               {.name = "shipping", .type = "int"}},
                   .foreign_keys = {{{"tenant", "billing"}, "addresses", {"tenant", "id"}},
                                    {{"tenant", "shipping"}, "addresses", {"tenant", "id"}}}}}}));
  for (const RenderStyle style : {RenderStyle::kDdl, RenderStyle::kList}) {
    const LinkRequest request{.question = "orders by address", .style = style};
    EXPECT_EQ(LinkOrDie(*index, request).joins.size(), 3U) << "the tenants are named once";
    const LinkResult one =
        LinkOrDie(*index, request, {.columns = {{"orders", {"tenant", "shipping"}}}});
    ASSERT_EQ(one.joins.size(), 2U) << one.rendered;
    EXPECT_EQ(one.joins[0].left, "orders.tenant");
    EXPECT_EQ(one.joins[1].left, "orders.shipping");
    EXPECT_TRUE(LinkOrDie(*index, request, {.columns = {{"orders", {"billing", "shipping"}}}})
                    .joins.empty());
  }
}

TEST(Linker, AKeyOfATableToItselfIsShownWithAllOfItsPairs) {
  Schema schema{.name = "firm"};
  schema.tables.push_back(
      {.name = "employees",
       .columns = {{.name = "company", .type = "integer", .primary_key = true},
                   {.name = "id", .type = "integer", .primary_key = true},
                   {.name = "manager", .type = "integer"},
                   {.name = "wage", .type = "integer"}},
       .foreign_keys = {{{"company", "manager"}, "employees", {"company", "id"}},
                        {{"company", "id"}, "employees", {"company", "id"}}}});
  const auto index = LinkIndex::Build(MakeCatalog(schema));
  LinkRequest request{.question = "company and manager of all employees"};
  for (const LinkMode mode : {LinkMode::kAuto, LinkMode::kFocused}) {
    request.mode = mode;
    std::vector<std::string> joins;
    for (const Join& join : LinkOrDie(*index, request).joins) {
      joins.push_back(absl::StrCat(join.left, "=", join.right));
    }
    // The second key says nothing: every row is its own.
    EXPECT_THAT(joins, ::testing::UnorderedElementsAre("employees.company=employees.company",
                                                       "employees.manager=employees.id"));
  }
  // Without a column of the key there is no half of it.
  const LinkResult part =
      LinkOrDie(*index, request, {.columns = {{"employees", {"company", "manager", "wage"}}}});
  EXPECT_THAT(part.joins, IsEmpty());
}

TEST(Linker, NeverShowsValuesOfSensitiveColumns) {
  const auto index = LinkIndex::Build(MakeCatalog(Shop()));
  for (const LinkMode mode : {LinkMode::kAuto, LinkMode::kFocused}) {
    const LinkResult result =
        LinkOrDie(*index, {.question = "customer with email ada@example.org", .mode = mode});
    EXPECT_THAT(ColumnsOf(result), Contains("customers.email"));
    EXPECT_THAT(result.rendered, Not(HasSubstr("ada@example.org")));
  }
}

class FixedDense final : public DenseColumns {
 public:
  explicit FixedDense(std::vector<Hit> hits) : hits_(std::move(hits)) {}
  std::vector<Hit> Nearest(const Visibility&, size_t) const override { return hits_; }

 private:
  const std::vector<Hit> hits_;
};

TEST(Linker, TakesDenseHitsIntoAccountUnlessTheyAreHidden) {
  const auto index = LinkIndex::Build(MakeCatalog(Shop()));
  const auto reviews = static_cast<uint32_t>(index->catalog().FindEntry("reviews"));
  const auto customers = static_cast<uint32_t>(index->catalog().FindEntry("customers"));
  const FixedDense dense({{{reviews, 1}, 0.9F}, {{customers, 1}, 0.8F}, {{99, 99}, 0.7F}});
  const LinkRequest request{.question = "zzz", .mode = LinkMode::kFocused, .max_columns = 6};
  const LinkResult result = LinkOrDie(*index, request, {.tables = {{"reviews", "orders"}}},
                                      {.weights = {}, .count_tokens = nullptr, .dense = &dense});
  ASSERT_FALSE(result.tables.empty());
  EXPECT_EQ(result.mode, LinkResult::kFocused);
  EXPECT_THAT(ColumnsOf(result), Contains("reviews.stars"));
  EXPECT_THAT(Everything(result), Not(HasSubstr("full_name")));
}

// Every word of the question is in many tables and many columns; together they are in one table.
TEST(Linker, OfManyTablesFindsTheOneThatHasAllWordsOfTheQuestion) {
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const std::vector<std::string> sources = {"crm", "erp", "web", "billing", "support", "finance"};
  const std::vector<std::string> things = {"customer", "invoice",  "product",  "campaign",
                                           "ticket",   "supplier", "contract", "device"};
  const std::vector<std::string> aspects = {"summary", "snapshot", "history", "forecast",
                                            "target",  "quality",  "audit"};
  const std::vector<std::string> fields = {"currency", "margin",   "discount", "browser",
                                           "severity", "capacity", "revenue",  "timezone"};
  const auto pick = [&](const auto& items) { return items[random() % items.size()]; };
  Schema schema{.name = "warehouse"};
  for (const std::string& source : sources) {
    for (const std::string& thing : things) {
      for (const std::string& aspect : aspects) {
        Table table{.name = absl::StrCat(source, "_", thing, "_", aspect)};
        for (const std::string& field : fields) {
          table.columns.push_back({.name = absl::StrCat(pick(things), "_", field)});
        }
        schema.tables.push_back(std::move(table));
      }
    }
  }
  const auto index = LinkIndex::Build(MakeCatalog(std::move(schema)));
  int found = 0;
  for (int round = 0; round < 50; ++round) {
    const std::string source = pick(sources), thing = pick(things), aspect = pick(aspects);
    const LinkResult result =
        LinkOrDie(*index, {.question = absl::StrCat("What is the ", pick(fields), " in the ",
                                                    source, " ", aspect, " of each ", thing, "?")});
    found += std::any_of(result.tables.begin(), result.tables.end(),
                         [&](const LinkedTable& table) {
                           return table.name == absl::StrCat(source, "_", thing, "_", aspect);
                         })
                 ? 1
                 : 0;
  }
  EXPECT_GE(found, 45);
}

TEST(Linker, RefusesBadQuestions) {
  const auto index = LinkIndex::Build(MakeCatalog(Shop()));
  const auto visible = index->See({});
  for (const std::string& question :
       {std::string(), std::string("a\xff"), std::string(70'000, 'a')}) {
    EXPECT_EQ(Link(*index, *visible, {.question = question}).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(Linker, SurvivesAnyQuestionAndAnEmptyCatalog) {
  const auto empty = LinkIndex::Build(MakeCatalog({.name = "empty"}));
  EXPECT_THAT(LinkOrDie(*empty, {.question = "orders"}).tables, IsEmpty());
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto index = LinkIndex::Build(MakeCatalog(Shop()));
  for (int round = 0; round < 300; ++round) {
    std::string question;
    for (size_t length = 1 + random() % 200; length > 0; --length) {
      question.push_back("order costumer'\"\n\t(),.0123_ABC"[random() % 29]);
    }
    const LinkRequest request{.question = question, .token_budget = random() % 500};
    EXPECT_LE(LinkOrDie(*index, request).tokens.rendered, request.token_budget);
  }
}

TEST(Linker, LinksQuestionsAboutChinook) {
  OCTOGATE_SKIP_WITHOUT_DATA(file, "text2sql/chinook/Chinook_Sqlite.sqlite");
  auto schema = ReadSqliteSchema(file);
  ASSERT_TRUE(schema.ok()) << schema.status();
  const auto index = LinkIndex::Build(MakeCatalog(*std::move(schema)));
  const LinkResult result =
      LinkOrDie(*index, {.question = "Which albums of ac/dc have tracks of the genre jazz?",
                         .mode = LinkMode::kFocused});
  EXPECT_THAT(
      ColumnsOf(result),
      ::testing::IsSupersetOf({"Album.Title", "Album.ArtistId", "Artist.ArtistId", "Artist.Name",
                               "Track.AlbumId", "Track.GenreId", "Genre.GenreId", "Genre.Name"}));
  EXPECT_THAT(result.rendered, HasSubstr("'AC/DC'"));
  EXPECT_THAT(result.disconnected, IsEmpty());
}

}  // namespace
}  // namespace octogate::schema
