#include "retrieval/schema/schema_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/retrieval/schema/test_schemas.h"

namespace octogate::schema {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// All of the shop with its keys, ranks in order.
struct Given {
  Schema shop = Shop();
  std::vector<TextTable> tables;
  std::vector<TextJoin> joins;
};
Given GivenShop() {
  Given given;
  uint32_t rank = 0;
  for (const Table& table : given.shop.tables) {
    given.tables.push_back({.table = &table, .members = {}, .columns = {}});
    for (const Column& column : table.columns) {
      given.tables.back().columns.push_back({.column = &column, .rank = rank++, .matched = {}});
    }
  }
  given.joins.push_back({.left_table = 1, .left_column = 1, .right_table = 0, .right_column = 0});
  given.joins.push_back({.left_table = 4,
                         .left_column = 0,
                         .right_table = 3,
                         .right_column = 0,
                         .kind = KeyKind::kInferred});
  given.tables[0].columns[3].matched = {"New Zealand"};
  return given;
}

TEST(RenderWithin, WritesDdl) {
  const Given given = GivenShop();
  const SchemaText text =
      RenderWithin(given.tables, given.joins, RenderStyle::kDdl, 10'000, nullptr);
  EXPECT_THAT(text.text, HasSubstr("CREATE TABLE customers ( -- people who buy\n"
                                   "  id integer PRIMARY KEY,\n"
                                   "  full_name text, -- values: 'Ada Lovelace', 'Alan Turing'\n"));
  EXPECT_THAT(text.text, HasSubstr("country text -- values: 'New Zealand', 'France'\n);\n"));
  EXPECT_THAT(text.text, HasSubstr("  customer_id integer REFERENCES customers(id),\n"));
  EXPECT_THAT(text.text, HasSubstr("  PRIMARY KEY (order_id, line)\n"));
  EXPECT_THAT(text.text, HasSubstr("  -- joins: product_id = products.product_id\n"));
}

TEST(RenderWithin, WritesLists) {
  const Given given = GivenShop();
  const SchemaText text =
      RenderWithin(given.tables, given.joins, RenderStyle::kList, 10'000, nullptr);
  EXPECT_THAT(text.text, HasSubstr("Table reviews, columns = [*, product_id, stars, remark]\n"));
  EXPECT_THAT(text.text, HasSubstr("Foreign_keys = [orders.customer_id = customers.id, "));
  EXPECT_THAT(text.text, HasSubstr("# reviews.stars: rating from 1 to 5\n"));
}

// A column of `member` with that name, as it is shown.
std::string Shown(Column column) {
  column.type = "text";
  const Table table = {.name = "member", .columns = {column}};
  return RenderWithin({{.table = &table,
                        .members = {},
                        .columns = {{.column = &column,
                                     .texts = TellingTexts(table, column),
                                     .matched = {}}}}},
                      {}, RenderStyle::kDdl, 10'000, nullptr)
      .text;
}

TEST(RenderWithin, LeavesOutWhatTheNamesSay) {
  const auto shown = [](const std::string& remark) {
    return "CREATE TABLE member (\n  full_name text" + remark + "\n);\n";
  };
  for (const char* const nothing : {"the full name of the member", "Full Name",
                                    "Members' full names", "unique full name", ""}) {
    EXPECT_EQ(Shown({.name = "full_name", .alias = nothing}), shown("")) << nothing;
    EXPECT_EQ(Shown({.name = "full_name", .description = nothing}), shown("")) << nothing;
    EXPECT_EQ(Shown({.name = "full_name", .value_description = nothing}), shown("")) << nothing;
  }
  for (const char* const something : {"full name in capitals", "name of 40 bytes", "Vollname"}) {
    const std::string remark = absl::StrCat(" -- ", something);
    EXPECT_EQ(Shown({.name = "full_name", .alias = something}), shown(remark));
    EXPECT_EQ(Shown({.name = "full_name", .description = something}), shown(remark));
    EXPECT_EQ(Shown({.name = "full_name", .value_description = something}), shown(remark));
    // Nothing is said twice.
    EXPECT_EQ(Shown({.name = "full_name",
                     .alias = something,
                     .description = something,
                     .value_description = something}),
              shown(remark));
  }
  EXPECT_EQ(Shown({.name = "full_name",
                   .alias = "surname first",
                   .description = "first name behind the surname",
                   .value_description = "surname in capitals"}),
            shown(" -- surname first; first name behind the surname; surname in capitals"));
}

TEST(RenderWithin, ShowsSamplesOfWhatIsNoKey) {
  Given given = GivenShop();
  given.shop.tables[1].columns[1].values = {"17", "19"};  // orders.customer_id
  for (const RenderStyle style : {RenderStyle::kDdl, RenderStyle::kList}) {
    EXPECT_THAT(RenderWithin(given.tables, given.joins, style, 10'000, nullptr).text,
                Not(HasSubstr("'17'")));
    // What is not joined may be a value that somebody asks for, and so may be what somebody has.
    EXPECT_THAT(RenderWithin(given.tables, {}, style, 10'000, nullptr).text, HasSubstr("'17'"));
    given.tables[1].columns[1].matched = {"17"};
    EXPECT_THAT(RenderWithin(given.tables, given.joins, style, 10'000, nullptr).text,
                HasSubstr("'17'"));
    given.tables[1].columns[1].matched = {};
  }
}

TEST(RenderWithin, KeysOfSeveralColumnsStandBehindThem) {
  Given given = GivenShop();
  given.joins = {
      {.left_table = 4, .left_column = 0, .right_table = 2, .right_column = 0, .group = 1},
      {.left_table = 4, .left_column = 1, .right_table = 2, .right_column = 1, .group = 1},
      {.left_table = 4, .left_column = 0, .right_table = 3, .right_column = 0},
      {.left_table = 4, .left_column = 0, .right_table = 0, .right_column = 0}};
  const std::string text =
      RenderWithin(given.tables, given.joins, RenderStyle::kDdl, 10'000, nullptr).text;
  EXPECT_THAT(text, HasSubstr("  FOREIGN KEY (product_id) REFERENCES order_lines (order_id)"));
  EXPECT_THAT(text, HasSubstr("  FOREIGN KEY (stars) REFERENCES order_lines (line)"));
  EXPECT_THAT(text, HasSubstr("  product_id integer REFERENCES products(product_id) "
                              "REFERENCES customers(id),\n"));
}

TEST(RenderWithin, DropsDetailBeforeColumns) {
  const Given given = GivenShop();
  const auto at = [&](size_t budget) {
    return RenderWithin(given.tables, given.joins, RenderStyle::kDdl, budget, nullptr);
  };
  const size_t full = at(10'000).tokens;
  bool sample_gone = false;
  bool description_gone = false;
  uint32_t columns = 18;
  for (size_t budget = full; budget > 0; --budget) {
    const SchemaText text = at(budget);
    EXPECT_LE(text.columns, columns);
    columns = text.columns;
    const bool has_sample = text.text.find("Sextant") != std::string::npos;
    const bool has_description = text.text.find("rating from") != std::string::npos;
    if (!sample_gone) {
      EXPECT_TRUE(has_description);
    } else {
      EXPECT_FALSE(has_sample);
    }
    sample_gone = sample_gone || !has_sample;
    description_gone = description_gone || !has_description;
    EXPECT_TRUE(columns == 18 || (sample_gone && description_gone));
  }
  EXPECT_LT(columns, 3U);
}

TEST(RenderWithin, NeverExceedsTheBudget) {
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  // Tokens that no estimate by length foresees.
  const CountTokens odd = [](std::string_view text) {
    return static_cast<size_t>(std::count(text.begin(), text.end(), 'e')) * 7 + text.size() / 9;
  };
  for (int round = 0; round < 200; ++round) {
    const Schema schema = RandomSchema(random, 1 + static_cast<int>(random() % 10));
    std::vector<TextTable> tables;
    size_t columns = 0;
    for (const Table& table : schema.tables) {
      tables.push_back({.table = &table, .members = {}, .columns = {}});
      for (const Column& column : table.columns) {
        tables.back().columns.push_back({.column = &column, .rank = 0, .matched = column.values});
        ++columns;
      }
    }
    std::vector<uint32_t> ranks(columns);
    std::iota(ranks.begin(), ranks.end(), 0U);
    std::shuffle(ranks.begin(), ranks.end(), random);
    for (TextTable& table : tables) {
      for (TextColumn& column : table.columns) {
        column.rank = ranks.back();
        ranks.pop_back();
      }
    }
    const size_t budget = random() % 600;
    for (const RenderStyle style : {RenderStyle::kDdl, RenderStyle::kList}) {
      for (const CountTokens& count : {CountTokens(), odd}) {
        const SchemaText text = RenderWithin(tables, {}, style, budget, count);
        EXPECT_LE(CountOrEstimate(count, text.text), budget);
        EXPECT_EQ(CountOrEstimate(count, text.text), text.tokens);
      }
    }
  }
}

TEST(QuotedIfNeeded, QuotesWhatIsNotBare) {
  EXPECT_EQ(QuotedIfNeeded("order_id2"), "order_id2");
  EXPECT_EQ(QuotedIfNeeded("Free Meal (%)"), "\"Free Meal (%)\"");
  EXPECT_EQ(QuotedIfNeeded("2nd"), "\"2nd\"");
  EXPECT_EQ(QuotedIfNeeded("a\"b"), "\"a\"\"b\"");
}

}  // namespace
}  // namespace octogate::schema
