// What a draft tree holds, in terms of the paths that it stands for.
#include "workers/speculation/draft_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
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

// The definition, in terms of paths.
bool Improbable(const std::map<Path, DraftNode>& draft, const Path& path, float epsilon) {
  const Path prefix(path.begin(), path.end() - 1);
  if (!prefix.empty() && !draft.contains(prefix)) return false;
  std::optional<double> left;
  for (const auto& [other, node] : draft) {
    if (other.size() == path.size() && std::equal(prefix.begin(), prefix.end(), other.begin())) {
      left = left.value_or(1) - double{node.probability};
    }
  }
  if (!left.has_value()) return false;
  const auto found = draft.find(path);
  return found != draft.end() ? found->second.probability < epsilon : *left < double{epsilon};
}

TEST(DraftTreeTest, WhatADraftFindsImprobableIsDroppedAndWhatItCannotJudgeKept) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  int dropped = 0;
  for (int round = 0; round < 500; ++round) {
    DraftTree draft = RandomTree(random, static_cast<int>(random() % 20), 2);
    for (DraftNode& node : draft.nodes) node.probability /= kVocabulary;
    const DraftTree all = RandomTree(random, 30, 1);
    const float epsilon = static_cast<float>(random() % 8) / 32;
    DraftTree pruned = all;
    PruneByDraft(draft, epsilon, pruned);
    ASSERT_TRUE(CheckDraftTree(pruned, kVocabulary).ok());
    const std::map<Path, DraftNode> judged = Paths(draft);
    std::map<Path, float> expected;
    for (const auto& [path, node] : Paths(all)) {
      bool keep = true;
      for (size_t length = 1; length <= path.size(); ++length) {
        keep &= !Improbable(judged, Path(path.begin(), path.begin() + static_cast<int>(length)),
                            epsilon);
      }
      if (keep) expected[path] = node.probability;
    }
    std::map<Path, float> left;
    for (const auto& [path, node] : Paths(pruned)) left[path] = node.probability;
    ASSERT_EQ(left, expected);
    dropped += all.size() - pruned.size();
    if (draft.empty() || epsilon == 0) {
      EXPECT_EQ(pruned.size(), all.size());
    }
  }
  EXPECT_GT(dropped, 500);
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
