// What a trie of branches counts, beside a map of all their beginnings.
#include "workers/speculation/branch_trie.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

using Path = std::vector<int32_t>;

// Of every node that is not about to be dropped.
std::map<Path, int> Counts(const BranchTrie& trie) {
  std::map<Path, int> counts;
  size_t nodes = 0;
  std::vector<std::pair<int32_t, Path>> open = {{0, {}}};
  while (!open.empty()) {
    const auto [node, path] = open.back();
    open.pop_back();
    for (int32_t child = trie.At(node).first; child >= 0; child = trie.At(child).next) {
      Path longer = path;
      longer.push_back(trie.At(child).token);
      EXPECT_EQ(trie.Child(node, trie.At(child).token), child);
      EXPECT_EQ(trie.Find(longer), child);
      if (trie.Count(child) > 0) counts[longer] = trie.Count(child);
      ++nodes;
      open.emplace_back(child, longer);
    }
  }
  EXPECT_LE(nodes, trie.size());
  return counts;
}

TEST(BranchTrieTest, CountsAndDecaysAsAMapDoes) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 20; ++round) {
    const size_t max_nodes = 1 + random() % 400;
    const auto alphabet = 1 + random() % 6;
    BranchTrie trie(max_nodes);
    std::map<Path, int> expected;
    uint32_t halvings = 0;
    for (int put = 0; put < 600; ++put) {
      Path branch(random() % 6);
      for (int32_t& token : branch) token = static_cast<int32_t>(random() % alphabet);
      trie.Put(branch);
      for (; halvings < trie.halvings(); ++halvings) {
        for (auto& [path, count] : expected) count /= 2;
        std::erase_if(expected, [](const auto& entry) { return entry.second == 0; });
      }
      for (size_t length = 1; length <= std::min(branch.size(), max_nodes); ++length) {
        ++expected[Path(branch.begin(), branch.begin() + static_cast<int64_t>(length))];
      }
      ASSERT_LE(trie.size(), max_nodes);
      ASSERT_GE(trie.size(), expected.size());
      if (put % 20 == 0) {
        ASSERT_EQ(Counts(trie), expected) << "after " << put << " branches";
      }
    }
    EXPECT_LE(trie.CountBelow(0, 1 << 30), static_cast<int>(trie.size()));
    EXPECT_EQ(trie.CountBelow(-1, 10), 0);
  }
}

TEST(BranchTrieTest, ForgetsLittleByLittleUntilHalfIsFree) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  constexpr size_t kNodes = 4096;
  BranchTrie trie(kNodes);
  size_t most_at_once = 0;
  bool was_full = false;
  for (int i = 0; i < 5000; ++i) {
    Path branch(13);
    for (int32_t& token : branch) token = static_cast<int32_t>(random());
    const size_t before = trie.size();
    trie.Put(branch);
    if (trie.size() < before) most_at_once = std::max(most_at_once, before - trie.size());
    was_full = was_full || trie.size() > kNodes * 7 / 8;
    if (was_full && trie.size() <= kNodes / 2) {
      EXPECT_LE(most_at_once, 8 * branch.size());
      return;
    }
  }
  FAIL() << "there are still " << trie.size();
}

TEST(BranchTrieTest, TakesBoundedMemory) {
  std::mt19937_64 random(FreshSeed());
  BranchTrie trie(1000);
  for (int i = 0; i < 20000; ++i) {
    Path branch(13);
    for (int32_t& token : branch) token = static_cast<int32_t>(random() % 1000);
    trie.Put(branch);
    ASSERT_LE(trie.size(), 1000U);
    ASSERT_LE(trie.bytes(), 1013 * 80U + sizeof(BranchTrie));
  }
}

}  // namespace
}  // namespace octogate::workers
