#include "retrieval/schema/key_closure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/retrieval/schema/test_schemas.h"

namespace octogate::schema {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

bool Everything(ColumnId) { return true; }

// Tables t10, t11, … with random keys between them.
std::shared_ptr<const LinkIndex> RandomGraph(std::mt19937_64& random, int tables, int keys) {
  Schema schema{.name = "graph", .tables = {}, .warnings = {}};
  for (int t = 0; t < tables; ++t) {
    schema.tables.push_back(
        {.name = absl::StrCat("t", 10 + t, "x"), .columns = {{.name = "id", .primary_key = true}}});
  }
  for (int k = 0; k < keys; ++k) {
    Table& from = schema.tables[random() % schema.tables.size()];
    const Table& to = schema.tables[random() % schema.tables.size()];
    const std::string name = absl::StrCat("c", k);
    from.columns.push_back({.name = name});
    from.foreign_keys.push_back({{name}, to.name, {"id"}});
  }
  return LinkIndex::Build(MakeCatalog(std::move(schema), {.families = false}));
}

// All paths without a repeated table, by depth-first enumeration.
void Enumerate(const LinkIndex& index, uint32_t to, std::vector<uint32_t>* path,
               std::vector<std::vector<uint32_t>>* all) {
  if (path->back() == to) {
    all->push_back(*path);
    return;
  }
  if (path->size() > kMaxPathWeight) return;
  std::set<uint32_t> next;
  for (const KeyEdge& edge : index.catalog().edges()) {
    if (edge.from.entry == path->back()) next.insert(edge.to.entry);
    if (edge.to.entry == path->back()) next.insert(edge.from.entry);
  }
  for (const uint32_t entry : next) {
    if (std::find(path->begin(), path->end(), entry) != path->end()) continue;
    path->push_back(entry);
    Enumerate(index, to, path, all);
    path->pop_back();
  }
}

TEST(ShortestPath, IsTheFirstOfAllThatAreShortest) {
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 60; ++round) {
    const auto index = RandomGraph(random, 9, 4 + static_cast<int>(random() % 10));
    const auto from = static_cast<uint32_t>(random() % 9);
    const auto to = static_cast<uint32_t>(random() % 9);
    std::vector<std::vector<uint32_t>> all;
    std::vector<uint32_t> path = {from};
    Enumerate(*index, to, &path, &all);
    std::vector<uint32_t> expected;
    for (const std::vector<uint32_t>& candidate : all) {
      const bool better = expected.empty() || candidate.size() < expected.size() ||
                          (candidate.size() == expected.size() && candidate < expected);
      if (better) expected = candidate;
    }
    EXPECT_EQ(ShortestPath(*index, from, to, Everything), expected);
  }
}

// The least number of edges of a tree over the terminals: by trying all sets of other tables.
size_t SteinerWeight(const LinkIndex& index, const std::vector<uint32_t>& terminals) {
  const size_t n = index.catalog().entries().size();
  size_t least = SIZE_MAX;
  for (uint32_t set = 0; set < (1U << n); ++set) {
    bool holds = true;
    for (const uint32_t terminal : terminals) holds = holds && (set >> terminal & 1) != 0;
    const auto size = static_cast<size_t>(__builtin_popcount(set));
    if (!holds || size - 1 >= least) continue;
    uint32_t reached = 1U << terminals[0];
    for (size_t step = 0; step < n; ++step) {
      for (const KeyEdge& edge : index.catalog().edges()) {
        const uint32_t a = 1U << edge.from.entry;
        const uint32_t b = 1U << edge.to.entry;
        if ((set & a) == 0 || (set & b) == 0) continue;
        if ((reached & a) != 0 || (reached & b) != 0) reached |= a | b;
      }
    }
    if (reached == set) least = size - 1;
  }
  return least;
}

TEST(CloseKeys, ConnectsWhatCanBeConnectedWithAtMostTwiceTheLeastJoins) {
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 60; ++round) {
    const auto index = RandomGraph(random, 9, 4 + static_cast<int>(random() % 10));
    std::vector<uint32_t> terminals;
    for (uint32_t t = 0; t < 9; ++t) {
      if (random() % 3 == 0) terminals.push_back(t);
    }
    if (terminals.empty()) continue;
    std::shuffle(terminals.begin(), terminals.end(), random);
    const KeyClosure closure = CloseKeys(*index, terminals, Everything);
    // From terminal to terminal: each path is bounded, not all of them together.
    std::set<uint32_t> reachable = {terminals[0]};
    for (size_t step = 0; step < terminals.size(); ++step) {
      for (const uint32_t a : terminals) {
        for (const uint32_t b : terminals) {
          if (reachable.contains(a) && !ShortestPath(*index, a, b, Everything).empty()) {
            reachable.insert(b);
          }
        }
      }
    }
    for (const uint32_t terminal : terminals) {
      EXPECT_THAT(closure.entries, Contains(terminal));
      const bool connected = std::find(closure.disconnected.begin(), closure.disconnected.end(),
                                       terminal) == closure.disconnected.end();
      EXPECT_EQ(connected, reachable.contains(terminal));
    }
    if (!closure.disconnected.empty()) continue;
    // A tree over the closure's tables has one edge less than tables.
    EXPECT_LE(closure.entries.size() - 1, 2 * SteinerWeight(*index, terminals));
    std::set<uint32_t> reached = {terminals[0]};
    for (size_t step = 0; step < closure.entries.size(); ++step) {
      for (const uint32_t edge : closure.edges) {
        const KeyEdge& key = index->catalog().edges()[edge];
        if (reached.contains(key.from.entry)) reached.insert(key.to.entry);
        if (reached.contains(key.to.entry)) reached.insert(key.from.entry);
      }
    }
    EXPECT_THAT(closure.entries, ::testing::IsSubsetOf(reached));
  }
}

TEST(CloseKeys, PrefersDeclaredKeysAndSkipsHiddenColumns) {
  Schema schema{.name = "s"};
  schema.tables.push_back({.name = "a", .columns = {{.name = "id", .primary_key = true}}});
  schema.tables.push_back({.name = "b",
                           .columns = {{.name = "id", .primary_key = true}, {.name = "up"}},
                           .foreign_keys = {{{"up"}, "a", {}}}});
  schema.tables.push_back({.name = "c",
                           .columns = {{.name = "id", .primary_key = true}, {.name = "up"}},
                           .foreign_keys = {{{"up"}, "b", {}}}});
  const auto index = LinkIndex::Build(MakeCatalog(schema));
  EXPECT_THAT(CloseKeys(*index, {0, 2}, Everything).entries, ElementsAre(0, 1, 2));
  const auto hidden = [](ColumnId id) { return id != ColumnId{1, 1}; };
  const KeyClosure closure = CloseKeys(*index, {0, 2}, hidden);
  EXPECT_THAT(closure.entries, ElementsAre(0, 2));
  EXPECT_THAT(closure.disconnected, ElementsAre(2));
  EXPECT_THAT(closure.edges, IsEmpty());
}

}  // namespace
}  // namespace octogate::schema
