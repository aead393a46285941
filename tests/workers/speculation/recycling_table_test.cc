// What a recycling table holds, beside a plain map that is told the same, and what tables tell each
// other.
#include "workers/speculation/recycling_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

constexpr RecyclingTableOptions kSmall = {.vocab_size = 20, .row_size = 3, .context_rows = 16};

using Tokens = std::vector<int32_t>;

Tokens RowOf(const RecyclingTable& table, int32_t token) {
  const auto row = table.After(token);
  return {row.begin(), row.end()};
}
Tokens RowOf(const RecyclingTable& table, int32_t previous, int32_t token) {
  const auto row = table.After(previous, token);
  return {row.begin(), row.end()};
}

int32_t RandomToken(std::mt19937_64& random) {
  return static_cast<int32_t>(random() % 22) - 1;  // one on each side is none
}

void ChangeAtRandom(std::mt19937_64& random, int changes, RecyclingTable& table) {
  for (int i = 0; i < changes; ++i) {
    if (random() % 2 == 0) {
      table.Prepend(RandomToken(random), RandomToken(random), RandomToken(random));
    } else {
      const std::array<int32_t, 3> candidates = {RandomToken(random), RandomToken(random),
                                                 RandomToken(random)};
      table.Set(RandomToken(random), RandomToken(random), candidates);
    }
  }
}

TEST(RecyclingTableTest, HoldsWhatAMapHolds) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  RecyclingTable table(kSmall);
  std::map<std::pair<int32_t, int32_t>, Tokens> rows;  // {-1, token} is the row of a token
  const auto is_token = [](int32_t token) { return token >= 0 && token < 20; };
  for (int change = 0; change < 5000; ++change) {
    const int32_t previous = RandomToken(random);
    const int32_t token = RandomToken(random);
    Tokens row;
    const bool prepends = random() % 2 == 0;
    const auto count = prepends ? 1 : random() % 6;
    for (uint64_t i = 0; i < count; ++i) row.push_back(RandomToken(random));
    if (prepends) {
      table.Prepend(previous, token, row[0]);
    } else {
      table.Set(previous, token, row);
    }
    for (int32_t before : previous == -1 ? Tokens{-1} : Tokens{-1, previous}) {
      if (!is_token(token) || (before != -1 && !is_token(before))) continue;
      Tokens expected;
      for (int32_t next : row) {
        if (is_token(next) && std::count(expected.begin(), expected.end(), next) == 0) {
          expected.push_back(next);
        }
      }
      if (expected.empty()) continue;
      Tokens& held = rows[{before, token}];
      if (prepends) {
        for (int32_t next : held) {
          if (next != row[0]) expected.push_back(next);
        }
        // A pair's row that made room for others begins anew.
        if (before != -1 && RowOf(table, before, token).size() == 1) expected.resize(1);
      }
      expected.resize(std::min<size_t>(expected.size(), 3));
      held = expected;
    }
    if (change % 50 != 0) continue;
    int pairs = 0;
    for (const auto& [key, expected] : rows) {
      if (key.first == -1) {
        ASSERT_EQ(RowOf(table, key.second), expected);
      } else if (const Tokens held = RowOf(table, key.first, key.second); !held.empty()) {
        ASSERT_EQ(held, expected);
        ++pairs;
      }
    }
    ASSERT_LE(pairs, 16);
    ASSERT_TRUE(change < 1000 || pairs == 16);
  }
}

TEST(RecyclingTableTest, OfPairsTheLatestAreKept) {
  RecyclingTable table({.vocab_size = 1000, .row_size = 2, .context_rows = 4});
  for (int32_t token = 0; token < 10; ++token) table.Prepend(token, token, token + 1);
  for (int32_t token = 0; token < 10; ++token) {
    EXPECT_EQ(RowOf(table, token, token), token < 6 ? Tokens{} : Tokens{token + 1});
    EXPECT_EQ(RowOf(table, token), Tokens{token + 1});
  }
}

TEST(RecyclingTableTest, TakesLessThanTwoMegabytesAt32000Tokens) {
  RecyclingTable table({.vocab_size = 32000});
  for (int32_t token = 0; token < 32000; ++token) {
    for (int32_t next = 1; next < 12; ++next) {
      table.Prepend((token * 7 + next) % 32000, token, (token + next) % 32000);
    }
  }
  EXPECT_LT(table.bytes(), 2'000'000U);
}

TEST(RecyclingTableTest, TablesThatMergeTheSameAreTheSame) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 50; ++round) {
    std::vector<RecyclingTable> tables(3, RecyclingTable(kSmall));
    for (int exchange = 0; exchange < 3; ++exchange) {
      for (RecyclingTable& table : tables) {
        ChangeAtRandom(random, static_cast<int>(random() % 60), table);
      }
      std::vector<std::string> exports;
      for (const RecyclingTable& table : tables) exports.push_back(table.Export(0));
      for (RecyclingTable& table : tables) {
        std::vector<std::string> order = exports;
        order.push_back(exports[random() % 3]);
        std::shuffle(order.begin(), order.end(), random);
        for (const std::string& bytes : order) ASSERT_TRUE(table.Merge(bytes).ok());
      }
      EXPECT_TRUE(tables[0].Export(0) == tables[1].Export(0));
      EXPECT_TRUE(tables[0].Export(0) == tables[2].Export(0));
    }
  }
}

TEST(RecyclingTableTest, ChangesSinceAVersionBringAReplicaUpToDate) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  RecyclingTable table(kSmall);
  RecyclingTable replica(kSmall);
  uint64_t since = 0;
  for (int round = 0; round < 50; ++round) {
    ChangeAtRandom(random, static_cast<int>(random() % 20), table);
    const std::string changes = table.Export(since);
    since = table.version();
    ASSERT_TRUE(replica.Merge(changes).ok());
    EXPECT_TRUE(replica.Export(0) == table.Export(0));
    EXPECT_EQ(replica.version(), table.version());
    const absl::StatusOr<int> again = replica.Merge(changes);
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(*again, 0);
  }
}

TEST(RecyclingTableTest, WhatHasChangedIsTakenInParts) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  RecyclingTable table(kSmall);
  RecyclingTable replica(kSmall);
  for (int round = 0; round < 50; ++round) {
    ChangeAtRandom(random, static_cast<int>(random() % 40), table);
    const size_t most = random() % 5;
    for (std::string part; !(part = table.TakeChanged(most)).empty();) {
      ASSERT_LE(part.size(), 20 + std::max<size_t>(most, 1) * RecyclingTable::RowBytes(3));
      ASSERT_GT(replica.Merge(part).value(), 0);
    }
    ASSERT_TRUE(replica.Export(0) == table.Export(0));
    ASSERT_EQ(replica.TakeChanged(1), "") << "it was told";
  }
}

TEST(RecyclingTableTest, ThoseRowsThatChangedAreExportedAlone) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 50; ++round) {
    RecyclingTable source(kSmall);
    RecyclingTable table(kSmall);
    ChangeAtRandom(random, 30, source);
    ChangeAtRandom(random, 30, table);
    std::vector<RecyclingContext> changed;
    const absl::StatusOr<int> count = table.Merge(source.Export(0), &changed);
    ASSERT_TRUE(count.ok());
    ASSERT_EQ(static_cast<size_t>(*count), changed.size());
    // A table that has what this one had needs no more than these.
    RecyclingTable other(kSmall);
    ASSERT_TRUE(other.Merge(table.ExportRows(table.Contexts())).ok());
    ASSERT_TRUE(other.Export(0) == table.Export(0));
    for (const RecyclingContext& context : changed) {
      if (!table.Has(context)) continue;  // dropped for a later pair
      RecyclingTable one(kSmall);
      ASSERT_EQ(one.Merge(table.ExportRows({&context, 1})).value(), 1);
      const auto row = context.previous < 0 ? table.After(context.token)
                                            : table.After(context.previous, context.token);
      const auto got = context.previous < 0 ? one.After(context.token)
                                            : one.After(context.previous, context.token);
      ASSERT_TRUE(std::equal(row.begin(), row.end(), got.begin(), got.end()));
    }
  }
}

// Versions that nobody can have come to would outlive all that will ever be learned.
TEST(RecyclingTableTest, RefusesVersionsFarAhead) {
  RecyclingTable source(kSmall);
  source.Prepend(-1, 1, 2);
  std::string bytes = source.Export(0);
  RecyclingTable table(kSmall);
  constexpr size_t kVersion = 32;  // of the first row
  ASSERT_EQ(bytes[kVersion], 1);
  bytes[kVersion + 6] = 1;
  EXPECT_FALSE(table.Merge(bytes).ok());
  EXPECT_EQ(table.version(), 0U);
  bytes[kVersion + 6] = 0;
  bytes[kVersion + 4] = 1;
  EXPECT_TRUE(table.Merge(bytes).ok());
  EXPECT_EQ(table.version(), (uint64_t{1} << 32) + 1);
}

TEST(RecyclingTableTest, TheLaterOfTwoRowsWins) {
  RecyclingTable early(kSmall);
  RecyclingTable late(kSmall);
  early.Prepend(-1, 1, 2);
  late.Prepend(-1, 5, 5);
  late.Prepend(-1, 1, 3);
  ASSERT_TRUE(late.Merge(early.Export(0)).ok());
  EXPECT_EQ(RowOf(late, 1), Tokens{3});
  ASSERT_TRUE(early.Merge(late.Export(0)).ok());
  EXPECT_EQ(RowOf(early, 1), Tokens{3});
  // What is learned after a merge is later than what was merged.
  early.Prepend(-1, 1, 4);
  ASSERT_TRUE(late.Merge(early.Export(0)).ok());
  EXPECT_EQ(RowOf(late, 1), (Tokens{4, 3}));
}

TEST(RecyclingTableTest, RefusesOtherTablesAndLeavesItselfAsItWas) {
  RecyclingTable table(kSmall);
  table.Prepend(1, 2, 3);
  const std::string before = table.Export(0);
  for (RecyclingTableOptions other : {RecyclingTableOptions{.vocab_size = 21, .row_size = 3},
                                      RecyclingTableOptions{.vocab_size = 20, .row_size = 4}}) {
    RecyclingTable wrong(other);
    wrong.Prepend(1, 2, 4);
    EXPECT_EQ(table.Merge(wrong.Export(0)).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_FALSE(table.Merge("").ok());
  EXPECT_FALSE(table.Merge(before + "x").ok());
  for (size_t length = 0; length < before.size(); ++length) {
    EXPECT_FALSE(table.Merge(std::string_view(before).substr(0, length)).ok());
  }
  EXPECT_EQ(table.Export(0), before);
}

TEST(RecyclingTableTest, DamagedExportsDoNoHarm) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  RecyclingTable source(kSmall);
  ChangeAtRandom(random, 100, source);
  const std::string good = source.Export(0);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = good;
    for (uint64_t change = 0; change < 1 + random() % 4; ++change) {
      const size_t place = random() % bytes.size();
      switch (random() % 4) {
        case 0:
          bytes[place] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(place, 1 + random() % 8);
          break;
        case 2:
          bytes.insert(place, 1 + random() % 8, static_cast<char>(random()));
          break;
        default:
          bytes[place] = static_cast<char>(bytes[place] ^ (1 << (random() % 8)));
      }
      if (bytes.empty()) bytes = "x";
    }
    RecyclingTable table(kSmall);
    ChangeAtRandom(random, 5, table);
    const std::string before = table.Export(0);
    if (!table.Merge(bytes).ok()) {
      ++refused;
      ASSERT_EQ(table.Export(0), before);
    }
    table.Prepend(1, 2, 3);
    ASSERT_EQ(table.After(2)[0], 3);
    for (int32_t token = 0; token < 20; ++token) {
      for (int32_t next : table.After(token)) ASSERT_TRUE(table.IsToken(next));
    }
    // What was taken in can be passed on.
    RecyclingTable other(kSmall);
    ASSERT_TRUE(other.Merge(table.Export(0)).ok());
  }
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace octogate::workers
