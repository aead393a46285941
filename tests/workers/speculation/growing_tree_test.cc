// A growing tree takes the most probable paths first, and what is left below a row of it is the
// tree that would have grown there.
#include "workers/speculation/growing_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

class GrowingTreeTest : public ::testing::Test {
 protected:
  // Makes rows of so many candidates, and gives those of them three candidates each.
  void Grow(GrowingTree& tree, int rows) {
    for (int i = 0; i < rows && tree.has_candidates(); ++i) {
      const double best = tree.best_path();
      EXPECT_EQ(tree.TakeRow().path, best);
    }
    for (size_t row = tree.ranked(); row < tree.rows().size(); ++row) {
      for (int32_t token = 0; token < 3; ++token) tree.AddCandidate(row, token, Share());
    }
    tree.SetRanked();
  }
  double Share() { return std::uniform_real_distribution<double>(0.01, 0.99)(random_); }

  static std::vector<int32_t> TokensTo(const GrowingTree& tree, size_t row) {
    std::vector<int32_t> tokens;
    for (int at = static_cast<int>(row); tree.rows()[static_cast<size_t>(at)].parent >= 0;
         at = tree.rows()[static_cast<size_t>(at)].parent) {
      tokens.push_back(tree.rows()[static_cast<size_t>(at)].token);
    }
    std::reverse(tokens.begin(), tokens.end());
    return tokens;
  }
  static void ExpectSound(const GrowingTree& tree) {
    for (size_t row = 0; row < tree.rows().size(); ++row) {
      const GrowingTree::Row& one = tree.rows()[row];
      kernels::AncestorMask mask;
      int depth = -1;
      for (int at = static_cast<int>(row); at >= 0;
           at = tree.rows()[static_cast<size_t>(at)].parent, ++depth) {
        mask.words[at / 64] |= uint64_t{1} << (at % 64);
      }
      EXPECT_TRUE(std::equal(std::begin(mask.words), std::end(mask.words),
                             std::begin(tree.masks()[row].words)));
      EXPECT_EQ(one.depth, depth);
      if (one.parent < 0) continue;
      EXPECT_LT(one.parent, static_cast<int>(row));
      EXPECT_NEAR(one.path,
                  tree.rows()[static_cast<size_t>(one.parent)].path * double{one.probability},
                  1e-6 * one.path);
    }
  }

  const uint32_t seed_ = FreshSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, DescribeSeed(seed_)};
  std::mt19937 random_{seed_};
};

TEST_F(GrowingTreeTest, WhatIsBelowARowIsTheTreeThatIsLeft) {
  for (int trial = 0; trial < 100; ++trial) {
    GrowingTree tree;
    EXPECT_TRUE(tree.empty());
    tree.Begin(7);
    for (int pass = 0; pass < 6; ++pass) Grow(tree, 5);
    ExpectSound(tree);
    const GrowingTree before = tree;
    const size_t row = random_() % tree.rows().size();
    const std::vector<int32_t> tokens = TokensTo(before, row);
    const std::vector<int32_t> path = tree.Follow(tokens);
    ASSERT_EQ(path.size(), tokens.size() + 1);
    ASSERT_EQ(path.back(), static_cast<int32_t>(row));
    const std::vector<int32_t> left = tree.MakeRoot(path.back());
    ExpectSound(tree);
    ASSERT_EQ(tree.rows().size(), left.size() + 1);
    EXPECT_EQ(tree.rows()[0].path, 1);
    for (size_t i = 0; i < left.size(); ++i) {
      const auto old = static_cast<size_t>(left[i]);
      std::vector<int32_t> whole = tokens;
      const std::vector<int32_t> below = TokensTo(tree, i + 1);
      whole.insert(whole.end(), below.begin(), below.end());
      EXPECT_EQ(whole, TokensTo(before, old));
      EXPECT_NEAR(tree.rows()[i + 1].path * before.rows()[row].path, before.rows()[old].path,
                  1e-12);
    }
    // It grows on, and its candidates come with falling probabilities.
    Grow(tree, 5);
    ExpectSound(tree);
    for (double last = 1; tree.has_candidates(); last = tree.TakeNode().path) {
      ASSERT_LE(tree.best_path(), last);
    }
  }
}

TEST_F(GrowingTreeTest, WhatWasNotComputedComesBack) {
  GrowingTree tree;
  tree.Begin(7);
  Grow(tree, 0);
  const double best = tree.best_path();
  const GrowingTree::Row row = tree.TakeRow();
  tree.TakeNode();
  EXPECT_EQ(tree.rows().size(), 2U);
  tree.DropUnranked();
  EXPECT_EQ(tree.rows().size(), 1U);
  EXPECT_EQ(tree.masks().size(), 1U);
  EXPECT_EQ(tree.best_path(), best);
  EXPECT_EQ(tree.TakeRow().token, row.token);
}

TEST_F(GrowingTreeTest, FollowsAsFarAsItGoesAndStandsPathsOfNoProbability) {
  GrowingTree tree;
  tree.Begin(7);
  tree.AddCandidate(0, 1, 1e-300);
  tree.SetRanked();
  tree.TakeRow();
  tree.AddCandidate(1, 2, 1e-300);
  tree.SetRanked();
  tree.TakeRow();
  tree.AddCandidate(2, 3, 0.5);
  tree.SetRanked();
  EXPECT_EQ(tree.Follow(std::vector<int32_t>{1, 5, 2}), (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(tree.deepest(), 3);
  EXPECT_TRUE(tree.MakeRoot(2).empty());
  EXPECT_EQ(tree.best_path(), 0);
  EXPECT_EQ(tree.TakeRow().token, 3);
}

}  // namespace
}  // namespace octogate::workers
