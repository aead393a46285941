// What Token Recycling learns and proposes.
#include "workers/speculation/recycling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/speculation/drafter_streams.h"

namespace octogate::workers {
namespace {

using Shape = RecyclingOptions::Shape;

RecyclingOptions Options(Shape shape, int context_rows = 64) {
  RecyclingOptions options;
  options.table = {.vocab_size = 50, .row_size = 4, .context_rows = context_rows};
  options.shape = shape;
  options.max_scopes = 3;
  return options;
}

// Tokens that somewhat depend on those before them.
Tokens RandomText(std::mt19937_64& random, size_t count) {
  Tokens text = {1};
  while (text.size() < count) {
    text.push_back(
        static_cast<int32_t>((text.back() * 7 + static_cast<int32_t>(random() % 3)) % 50));
  }
  return text;
}

TEST(RecyclingTest, DraftsWhatFollowedBefore) {
  for (Shape shape : {Shape::kBestFirst, Shape::kPlanned, Shape::kFixed}) {
    RecyclingDrafter drafter(Options(shape));
    const auto sequence = drafter.Begin("");
    sequence->Append(Tokens{1, 2, 3, 4, 1});
    const DraftTree tree = Proposal(*sequence);
    int node = -1;
    for (int32_t token : {2, 3, 4, 1}) {
      node = tree.Child(node, token);
      ASSERT_GE(node, 0) << token;
      EXPECT_EQ(tree.nodes[static_cast<size_t>(node)].drafters, 1);
    }
  }
}

// The table as it is by its definition, and the fixed tree filled from it.
TEST(RecyclingTest, AFixedTreeIsWhatANaiveReplaySays) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  RecyclingDrafter drafter(Options(Shape::kFixed, 0));
  const auto sequence = drafter.Begin("");
  std::map<int32_t, Tokens> rows;
  const RankTree ranks = PaperRankTree();
  const Tokens text = RandomText(random, 500);
  for (size_t i = 0; i < text.size(); ++i) {
    sequence->Append(Tokens{text[i]});
    if (i > 0) {
      Tokens& row = rows[text[i - 1]];
      row.erase(std::remove(row.begin(), row.end(), text[i]), row.end());
      row.insert(row.begin(), text[i]);
      row.resize(std::min<size_t>(row.size(), 4));
    }
    std::vector<Tokens> paths(ranks.size());
    std::vector<Tokens> expected;
    for (size_t node = 0; node < ranks.size(); ++node) {
      Tokens parent;
      if (ranks[node].parent >= 0) {
        parent = paths[static_cast<size_t>(ranks[node].parent)];
        if (parent.empty()) continue;
      }
      const Tokens& row = rows[parent.empty() ? text[i] : parent.back()];
      if (static_cast<size_t>(ranks[node].rank) >= row.size()) continue;
      parent.push_back(row[static_cast<size_t>(ranks[node].rank)]);
      paths[node] = parent;
      expected.push_back(parent);
    }
    const DraftTree tree = Proposal(*sequence);
    std::vector<Tokens> proposed;
    for (const DraftNode& node : tree.nodes) {
      proposed.push_back(node.parent < 0 ? Tokens{} : proposed[static_cast<size_t>(node.parent)]);
      proposed.back().push_back(node.token);
    }
    ASSERT_EQ(proposed, expected);
  }
}

TEST(RecyclingTest, OfRowsOfOneTokenTheKeptWinThenTheFirst) {
  RecyclingDrafter drafter(Options(Shape::kFixed, 0));
  const auto sequence = drafter.Begin("");
  sequence->Append(Tokens{9});
  const Tokens a = {10, 11};
  const Tokens b = {12, 13};
  const Tokens c = {14, 15};
  const Tokens d = {16, 17};
  const std::vector<ComputedRow> rows = {
      {.previous = -1, .token = 9, .candidates = a, .kept = true},
      {.previous = 9, .token = 5, .candidates = b, .kept = false},
      {.previous = 9, .token = 9, .candidates = c, .kept = true},
      {.previous = 5, .token = 9, .candidates = d, .kept = false},
      {.previous = 9, .token = 5, .candidates = d, .kept = false}};
  sequence->Append(Tokens{9, 14});
  // The candidates are better than the successor.
  sequence->Observe(rows);
  const auto first = [&](int32_t token) {
    sequence->Append(Tokens{token});
    const DraftTree tree = Proposal(*sequence, 2, 1);
    return tree.empty() ? -1 : tree.nodes[0].token;
  };
  EXPECT_EQ(first(5), 12);
  EXPECT_EQ(first(9), 14);
}

TEST(RecyclingTest, APairOutweighsItsToken) {
  RecyclingDrafter drafter(Options(Shape::kFixed));
  const auto sequence = drafter.Begin("");
  sequence->Append(Tokens{1, 2, 3, 0, 4, 2, 5, 0, 1, 2});
  const DraftTree tree = Proposal(*sequence, 4, 1);
  ASSERT_EQ(tree.size(), 2);
  EXPECT_EQ(tree.nodes[0].token, 3);
  EXPECT_EQ(tree.nodes[1].token, 5);
}

std::string Learned(RecyclingDrafter& drafter, std::string_view scope) {
  return drafter.TakeLearned(scope, size_t{1} << 20);
}

TEST(RecyclingTest, WhatOneScopeLearnedIsInNoOther) {
  RecyclingDrafter drafter(Options(Shape::kBestFirst));
  const auto taught = drafter.Begin("a");
  taught->Append(Tokens{1, 2, 3, 1});
  EXPECT_FALSE(Proposal(*taught).empty());
  const auto other = drafter.Begin("b");
  other->Append(Tokens{1});
  EXPECT_TRUE(Proposal(*other).empty());
  EXPECT_EQ(Learned(drafter, "b"), "");
  EXPECT_EQ(Learned(drafter, "never begun"), "");
  const auto same = drafter.Begin("a");
  same->Append(Tokens{1});
  EXPECT_FALSE(Proposal(*same).empty());
}

TEST(RecyclingTest, ForgetsTheScopesBegunLongestAgo) {
  RecyclingDrafter drafter(Options(Shape::kBestFirst));
  const auto in_use = drafter.Begin("in use");
  in_use->Append(Tokens{1, 2, 1});
  uint64_t most = 0;
  for (int i = 0; i < 100; ++i) {
    drafter.Begin(absl::StrCat("scope ", i))->Append(Tokens{1, 2, 1});
    most = std::max(most, drafter.bytes());
  }
  RecyclingDrafter three(Options(Shape::kBestFirst));
  for (const char* scope : {"scope 000", "scope 001", "scope 002"}) three.Begin(scope);
  EXPECT_LE(most, three.bytes() + 1000);
  EXPECT_TRUE(drafter.Has("scope 99"));
  EXPECT_FALSE(drafter.Has("scope 0"));
  EXPECT_FALSE(Proposal(*in_use).empty());
  EXPECT_TRUE(drafter.Has("in use"));
}

TEST(RecyclingTest, LongRandomStreamsGiveGoodTreesInBoundedMemory) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  for (Shape shape : {Shape::kBestFirst, Shape::kPlanned, Shape::kFixed}) {
    std::mt19937_64 random(seed);
    RecyclingDrafter drafter(Options(shape));
    RecyclingDrafter twin(Options(shape));
    const auto sequence = drafter.Begin("");
    const auto twin_sequence = twin.Begin("");
    const Tokens text = RandomText(random, 3000);
    const uint64_t bytes = drafter.bytes();
    for (size_t i = 0; i < text.size();) {
      const size_t count = std::min<size_t>(1 + random() % 4, text.size() - i);
      const Tokens next(text.begin() + static_cast<int64_t>(i),
                        text.begin() + static_cast<int64_t>(i + count));
      sequence->Append(next);
      twin_sequence->Append(next);
      if (i > 0 && random() % 2 == 0) {
        const Tokens candidates = RandomText(random, random() % 6);
        const std::vector<ComputedRow> rows = {
            {.previous = -1, .token = text[i - 1], .candidates = candidates, .kept = true},
            {.previous = text[i - 1],
             .token = static_cast<int32_t>(random() % 60) - 5,
             .candidates = candidates,
             .kept = false}};
        sequence->Observe(rows);
        twin_sequence->Observe(rows);
      }
      i += count;
      const int max_nodes = static_cast<int>(random() % 140);
      const int max_depth = static_cast<int>(random() % 10);
      const DraftTree tree = Proposal(*sequence, max_nodes, max_depth);
      ASSERT_TRUE(CheckDraftTree(tree, 50).ok()) << CheckDraftTree(tree, 50);
      ASSERT_LE(tree.size(), max_nodes);
      for (const DraftNode& node : tree.nodes) {
        ASSERT_LE(node.depth, max_depth);
        ASSERT_EQ(node.drafters, 1);
      }
      ASSERT_TRUE(IsAsAdded(tree));
      ASSERT_TRUE(shape != Shape::kBestFirst || IsBestFirst(tree));
      ASSERT_TRUE(SameTree(tree, Proposal(*twin_sequence, max_nodes, max_depth)));
    }
    EXPECT_LE(drafter.bytes(), bytes + 2000);  // a plan of 127 nodes
  }
}

TEST(RecyclingTest, ProbabilitiesComeToWhatIsMeasured) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  RecyclingDrafter drafter(Options(Shape::kBestFirst));
  const auto sequence = drafter.Begin("");
  // After an even token an odd one comes at random, after which the next even one is certain.
  double certain = 0;
  double chance = 0;
  for (int i = 0; i < 4000; ++i) {
    const auto odd = static_cast<int32_t>(random() % 25) * 2 + 1;
    sequence->Append(Tokens{odd});
    const DraftTree after_odd = Proposal(*sequence, 4, 1);
    sequence->Append(Tokens{odd - 1});
    const DraftTree after_even = Proposal(*sequence, 4, 1);
    if (i < 2000) continue;
    ASSERT_EQ(after_odd.nodes.at(0).token, odd - 1);
    certain += double{after_odd.nodes[0].probability};
    chance += double{after_even.nodes.at(0).probability};
  }
  EXPECT_GT(certain / 2000, 0.9);
  EXPECT_LT(chance / 2000, 0.2);
}

TEST(RecyclingTest, CandidatesAreJudgedByWhatFollowsTheNextTime) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  RecyclingDrafter drafter(Options(Shape::kBestFirst));
  const auto sequence = drafter.Begin("");
  sequence->Append(Tokens{0});
  // Behind each token the model holds one of four others most probable, anew each time, and that
  // one follows: what it held most probable the last time is right once in four.
  int32_t last = 0;
  double first = 0;
  double second = 0;
  for (int i = 0; i < 6000; ++i) {
    Tokens candidates = {last + 1, last + 2, last + 3, last + 4};
    for (int32_t& candidate : candidates) candidate %= 7;
    std::shuffle(candidates.begin(), candidates.end(), random);
    sequence->Append(Tokens{candidates[0]});
    const std::vector<ComputedRow> rows = {
        {.previous = -1, .token = last, .candidates = candidates, .kept = true, .hidden = {}}};
    sequence->Observe(rows);
    last = candidates[0];
    if (i < 3000) continue;
    const DraftTree tree = Proposal(*sequence, 4, 1);
    ASSERT_GE(tree.size(), 2);
    first += double{tree.nodes[0].probability};
    second += double{tree.nodes[1].probability};
  }
  EXPECT_NEAR(first / 3000, 0.25, 0.05);
  EXPECT_NEAR(second / 3000, 0.25, 0.05);
}

TEST(RecyclingTest, AnExportedTableStartsAnotherReplicaWarm) {
  RecyclingDrafter drafter(Options(Shape::kBestFirst));
  drafter.Begin("a")->Append(Tokens{1, 2, 3, 4, 1});
  RecyclingDrafter replica(Options(Shape::kBestFirst));
  ASSERT_TRUE(replica.Teach("a", Learned(drafter, "a")).ok());
  EXPECT_EQ(Learned(replica, "a"), "") << "it has not learned that itself";
  EXPECT_EQ(Learned(drafter, "a"), "") << "it was taken";
  const auto sequence = replica.Begin("a");
  sequence->Append(Tokens{2});
  EXPECT_EQ(Proposal(*sequence).nodes.at(0).token, 3);
}

}  // namespace
}  // namespace octogate::workers
