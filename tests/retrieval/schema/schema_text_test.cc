#include "retrieval/schema/schema_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

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
  EXPECT_THAT(text.text, HasSubstr("  FOREIGN KEY (customer_id) REFERENCES customers (id)\n);\n"));
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
