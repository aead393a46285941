// What a draft tree holds, in terms of the paths that it stands for.
#include "workers/speculation/draft_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

constexpr int kVocabulary = 5;

using Path = std::vector<int32_t>;

Path PathOf(const DraftTree& tree, int node) {
  Path path;
  for (int i = node; i >= 0; i = tree.nodes[static_cast<size_t>(i)].parent) {
    path.push_back(tree.nodes[static_cast<size_t>(i)].token);
  }
  std::reverse(path.begin(), path.end());
  return path;
}

// Of every node.
std::map<Path, DraftNode> Paths(const DraftTree& tree) {
  std::map<Path, DraftNode> paths;
  for (int i = 0; i < tree.size(); ++i) {
    paths[PathOf(tree, i)] = tree.nodes[static_cast<size_t>(i)];
  }
  return paths;
}

double PathProbability(const std::map<Path, DraftNode>& paths, Path path) {
  double product = 1;
  for (; !path.empty(); path.pop_back()) product *= double{paths.at(path).probability};
  return product;
}

DraftTree RandomTree(std::mt19937_64& random, int nodes, uint8_t drafters) {
  DraftTree tree;
  for (int i = 0; i < nodes; ++i) {
    const int parent = static_cast<int>(random() % static_cast<uint64_t>(tree.size() + 1)) - 1;
    tree.Add(parent, static_cast<int32_t>(random() % kVocabulary),
             static_cast<float>(random() % 9) / 8, drafters);
  }
  return tree;
}

TEST(DraftTreeTest, AddKeepsATreeWellFormed) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    const DraftTree tree = RandomTree(random, 60, 1);
    ASSERT_TRUE(CheckDraftTree(tree, kVocabulary).ok());
    EXPECT_EQ(Paths(tree).size(), tree.nodes.size());
  }
}

TEST(DraftTreeTest, ABuilderMakesTheTreeThatAddMakes) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    DraftTree added;
    DraftTree built;
    DraftTreeBuilder builder(built);
    // Few probabilities, which mostly fall.
    for (int32_t token = 0; token < kMaxDraftNodes; ++token) {
      const int parent = static_cast<int>(random() % static_cast<uint32_t>(1 + token / 3)) - 1;
      const uint32_t falls = 9 - std::min<uint32_t>(9, static_cast<uint32_t>(token) / 14);
      const float probability =
          static_cast<float>(random() % 10 == 0 ? random() % 10 : falls) / 10.0F;
      EXPECT_EQ(builder.Add(parent, token, probability, 1),
                added.Add(parent, token, probability, 1));
    }
    for (int i = 0; i < added.size(); ++i) {
      const DraftNode& expected = added.nodes[static_cast<size_t>(i)];
      const DraftNode& node = built.nodes[static_cast<size_t>(i)];
      ASSERT_EQ(node.parent, expected.parent);
      ASSERT_EQ(node.depth, expected.depth);
      ASSERT_EQ(node.rank, expected.rank);
      ASSERT_EQ(node.probability, expected.probability);
    }
  }
}

TEST(DraftTreeTest, MergeHoldsThePathsOfBoth) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    const DraftTree from = RandomTree(random, 50, 2);
    DraftTree to = RandomTree(random, 50, 1);
    const std::map<Path, DraftNode> a = Paths(from);
    const std::map<Path, DraftNode> b = Paths(to);
    MergeDraftTree(from, to);
    ASSERT_TRUE(CheckDraftTree(to, kVocabulary).ok());
    std::set<Path> expected;
    for (const auto& [path, node] : a) expected.insert(path);
    for (const auto& [path, node] : b) expected.insert(path);
    const std::map<Path, DraftNode> merged = Paths(to);
    ASSERT_EQ(merged.size(), expected.size());
    for (const auto& [path, node] : merged) {
      const auto in_a = a.find(path);
      const auto in_b = b.find(path);
      EXPECT_EQ(node.drafters, (in_a != a.end() ? 2 : 0) | (in_b != b.end() ? 1 : 0));
      EXPECT_EQ(node.probability, std::max(in_a != a.end() ? in_a->second.probability : 0,
                                           in_b != b.end() ? in_b->second.probability : 0));
    }
  }
}

TEST(DraftTreeTest, PruneKeepsTheMostProbablePaths) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    DraftTree tree = RandomTree(random, 60, 1);
    const std::map<Path, DraftNode> all = Paths(tree);
    const int count = static_cast<int>(random() % 70);
    PruneDraftTree(count, tree);
    ASSERT_TRUE(CheckDraftTree(tree, kVocabulary).ok());
    ASSERT_EQ(tree.size(), std::min(count, static_cast<int>(all.size())));
    const std::map<Path, DraftNode> kept = Paths(tree);
    double least_kept = 1;
    double most_dropped = 0;
    for (const auto& [path, node] : all) {
      const double probability = PathProbability(all, path);
      if (kept.contains(path)) {
        least_kept = std::min(least_kept, probability);
      } else {
        most_dropped = std::max(most_dropped, probability);
      }
    }
    EXPECT_GE(least_kept, most_dropped);
  }
}

TEST(DraftTreeTest, ChecksWhatDraftersPropose) {
  DraftTree tree;
  tree.Add(-1, 1, 0.5F, 1);
  tree.Add(0, 2, 0.5F, 1);
  ASSERT_TRUE(CheckDraftTree(tree, 3).ok());
  EXPECT_FALSE(CheckDraftTree(tree, 2).ok());

  const auto breaks = [&tree](auto&& change) {
    DraftTree broken = tree;
    change(broken);
    return !CheckDraftTree(broken, 3).ok();
  };
  EXPECT_TRUE(breaks([](DraftTree& t) { t.nodes[1].parent = 1; }));
  EXPECT_TRUE(breaks([](DraftTree& t) { t.nodes[1].parent = -2; }));
  EXPECT_TRUE(breaks([](DraftTree& t) { t.nodes[1].depth = 1; }));
  EXPECT_TRUE(breaks([](DraftTree& t) { t.nodes[0].token = -1; }));
  EXPECT_TRUE(breaks([](DraftTree& t) { t.nodes[0].probability = 1.5F; }));
  EXPECT_TRUE(breaks([](DraftTree& t) { t.nodes.push_back(t.nodes[1]); }));
  EXPECT_TRUE(breaks([](DraftTree& t) {
    while (t.size() <= kMaxDraftNodes) t.Add(t.size() - 1, 1, 0.5F, 1);
  }));
}

}  // namespace
}  // namespace octogate::workers
