// What is expected of drafts that several drafters make together.
#include "workers/speculation/draft_combination.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"

namespace octogate::workers {
namespace {

using Path = std::vector<int32_t>;

class DraftCombinationTest : public ::testing::Test {
 protected:
  // Random, by drafter `d`.
  DraftTree RandomTree(int d, int size) {
    DraftTree tree;
    for (int i = 0; i < size; ++i) {
      const int parent = static_cast<int>(random_() % static_cast<uint32_t>(tree.size() + 1)) - 1;
      tree.Add(parent, static_cast<int32_t>(random_() % 4),
               static_cast<float>(random_() % 1000) / 1000, static_cast<uint8_t>(1U << d));
    }
    return tree;
  }
  static std::map<Path, DraftNode> ByPath(const DraftTree& tree) {
    std::map<Path, DraftNode> nodes;
    std::vector<Path> paths;
    for (const DraftNode& node : tree.nodes) {
      paths.push_back(node.parent < 0 ? Path() : paths[static_cast<size_t>(node.parent)]);
      paths.back().push_back(node.token);
      nodes[paths.back()] = node;
    }
    EXPECT_EQ(nodes.size(), tree.nodes.size()) << "a path is there twice";
    return nodes;
  }
  // One token each, which they are as sure of.
  static std::vector<DraftTree> Guesses(int32_t first, float sure, int32_t second, float also) {
    std::vector<DraftTree> proposals(2);
    proposals[0].Add(-1, first, sure, 1);
    proposals[1].Add(-1, second, also, 2);
    return proposals;
  }
  double Expected(const std::vector<DraftTree>& proposals, int32_t token) {
    CombinedDraft draft;
    combination_.Combine(proposals, draft);
    const int node = draft.tree.Child(-1, token);
    return node < 0 ? -1 : double{draft.tree.nodes[static_cast<size_t>(node)].probability};
  }

  const uint32_t seed_ = std::random_device{}();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, absl::StrCat("seed ", seed_)};
  std::mt19937 random_{seed_};
  DraftCombination combination_;
};

TEST_F(DraftCombinationTest, IsTheUnionOfPathsWithTheLargestProbabilityThatSiblingsLeave) {
  for (int round = 0; round < 200; ++round) {
    std::vector<DraftTree> proposals;
    const int drafters = 1 + static_cast<int>(random_() % kMaxDrafters);
    std::map<Path, DraftNode> expected;
    for (int d = 0; d < drafters; ++d) {
      proposals.push_back(RandomTree(d, static_cast<int>(random_() % 20)));
      for (const auto& [path, node] : ByPath(proposals.back())) {
        const auto [place, is_new] = expected.emplace(path, node);
        if (is_new) continue;
        place->second.probability = std::max(place->second.probability, node.probability);
        place->second.drafters |= node.drafters;
        place->second.rank = std::min(place->second.rank, node.rank);
      }
    }
    CombinedDraft draft;
    combination_.Combine(proposals, draft);
    if (draft.tree.size() <= kMaxDraftNodes) {
      EXPECT_TRUE(CheckDraftTree(draft.tree, 4).ok());
    }
    const auto combined = ByPath(draft.tree);
    ASSERT_EQ(combined.size(), expected.size());
    std::map<Path, float> best;  // of the children
    for (const auto& [path, node] : expected) {
      float& probability = best[Path(path.begin(), path.end() - 1)];
      probability = std::max(probability, node.probability);
    }
    for (const auto& [path, node] : expected) {
      const auto found = combined.find(path);
      ASSERT_NE(found, combined.end());
      const float most = best[Path(path.begin(), path.end() - 1)];
      const bool yields = drafters > 1 && node.probability < most;
      EXPECT_EQ(found->second.probability,
                yields ? std::min(node.probability, std::max(1 - most, 0.02F)) : node.probability)
          << "nothing was learned yet";
      EXPECT_EQ(found->second.drafters, node.drafters);
      EXPECT_EQ(found->second.rank, node.rank);
      EXPECT_EQ(found->second.depth, node.depth);
    }
  }
}

// The second one is right half of the time, as it says, but never where the first is sure.
// RASD: what a drafter with a distribution has pruned is fused with its own tree.
TEST_F(DraftCombinationTest, OfWhatWasPrunedOnlyTheRestIsInTheTree) {
  std::vector<DraftTree> proposals(2);
  DraftTree& draft = proposals[1];
  draft.Add(-1, 1, 0.9F, 2);
  draft.Add(-1, 2, 0.07F, 2);
  draft.Add(0, 3, 0.5F, 2);
  DraftTree& retrieved = proposals[0];
  retrieved.Add(-1, 1, 0.5F, 1);
  retrieved.Add(0, 4, 0.5F, 1);   // 0.5 is left for it
  retrieved.Add(1, 5, 0.5F, 1);   // not judged
  retrieved.Add(-1, 6, 0.5F, 1);  // 0.03 is left for it
  retrieved.Add(3, 7, 0.5F, 1);   // follows it
  PruneByDraft(draft, 0.05F, retrieved);
  CombinedDraft combined;
  combination_.Combine(proposals, combined);
  std::vector<Path> paths;
  for (const auto& [path, node] : ByPath(combined.tree)) paths.push_back(path);
  EXPECT_EQ(paths, (std::vector<Path>{{1}, {1, 3}, {1, 4}, {1, 4, 5}, {2}}));
}

TEST_F(DraftCombinationTest, AGuessBesideASureOneCountsForWhatItIsWorth) {
  CombinedDraft draft;
  const int32_t first = 1;
  const int32_t second = 2;
  for (int i = 0; i < 400; ++i) {
    combination_.Combine(Guesses(1, 0.95F, 2, 0.5F), draft);
    combination_.Record(draft, {&first, 1});
    std::vector<DraftTree> alone(2);
    alone[1].Add(-1, 2, 0.5F, 2);
    combination_.Combine(alone, draft);
    combination_.Record(draft, {&second, 1});
  }
  EXPECT_LT(Expected(Guesses(1, 0.95F, 2, 0.5F), 2), 0.05);
  EXPECT_GT(Expected(Guesses(1, 0.95F, 2, 0.5F), 1), 0.9);
  std::vector<DraftTree> alone(2);
  alone[1].Add(-1, 2, 0.5F, 2);
  EXPECT_GT(Expected(alone, 2), 0.9);
}

TEST_F(DraftCombinationTest, AgreementCountsForMoreThanEitherAlone) {
  CombinedDraft draft;
  for (int i = 0; i < 2000; ++i) {
    // Each is right in half of all cases; where they agree, in nine of ten.
    const bool agree = random_() % 2 == 0;
    const int32_t chosen = agree ? (random_() % 10 == 0 ? 3 : 1) : (random_() % 10 == 0 ? 1 : 3);
    combination_.Combine(Guesses(1, 0.5F, agree ? 1 : 2, 0.5F), draft);
    combination_.Record(draft, {&chosen, 1});
  }
  EXPECT_NEAR(Expected(Guesses(1, 0.5F, 1, 0.5F), 1), 0.9, 0.08);
  EXPECT_NEAR(Expected(Guesses(1, 0.5F, 2, 0.5F), 1), 0.1, 0.08);
}

TEST_F(DraftCombinationTest, OnlyNodesThatTheAnswerCameToAreJudged) {
  std::vector<DraftTree> proposals(2);
  const int wrong = proposals[0].Add(-1, 1, 0.5F, 1);
  proposals[0].Add(wrong, 2, 0.8F, 1);
  CombinedDraft draft;
  const std::vector<int32_t> chosen = {7, 2};
  for (int i = 0; i < 100; ++i) {
    combination_.Combine(proposals, draft);
    combination_.Record(draft, chosen);
  }
  combination_.Combine(proposals, draft);
  EXPECT_LT(draft.tree.nodes[0].probability, 0.05F);
  EXPECT_FLOAT_EQ(draft.tree.nodes[1].probability, 0.8F) << "below a node that was wrong";
}

TEST_F(DraftCombinationTest, WhatOneDrafterProposesIsLeftAsItIs) {
  for (int round = 0; round < 100; ++round) {
    const std::vector<DraftTree> proposals = {RandomTree(0, 20)};
    CombinedDraft draft;
    combination_.Combine(proposals, draft);
    ASSERT_EQ(draft.tree.size(), proposals[0].size());
    for (int i = 0; i < draft.tree.size(); ++i) {
      const auto place = static_cast<size_t>(i);
      EXPECT_EQ(draft.tree.nodes[place].token, proposals[0].nodes[place].token);
      EXPECT_EQ(draft.tree.nodes[place].probability, proposals[0].nodes[place].probability);
    }
    const int32_t chosen = static_cast<int32_t>(random_() % 4);
    combination_.Record(draft, {&chosen, 1});
  }
}

TEST_F(DraftCombinationTest, ProbabilitiesStayProbabilities) {
  CombinedDraft draft;
  for (int i = 0; i < 3000; ++i) {
    std::vector<DraftTree> proposals;
    for (int d = 0; d < 3; ++d) proposals.push_back(RandomTree(d, 12));
    combination_.Combine(proposals, draft);
    for (const DraftNode& node : draft.tree.nodes) {
      ASSERT_GE(node.probability, 0);
      ASSERT_LE(node.probability, 1);
    }
    std::vector<int32_t> chosen(1 + random_() % 5);
    for (int32_t& token : chosen) token = static_cast<int32_t>(random_() % 4);
    combination_.Record(draft, chosen);
  }
}

}  // namespace
}  // namespace octogate::workers
