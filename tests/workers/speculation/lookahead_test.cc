// What Lookahead's tries propose.
#include "workers/speculation/lookahead.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/speculation/drafter_streams.h"

namespace octogate::workers {
namespace {

TEST(LookaheadTest, DraftsABranchOfThePrompt) {
  LookaheadDrafter drafter({});
  const auto sequence = drafter.Begin("");
  Tokens prompt;
  for (int32_t token = 0; token < 40; ++token) prompt.push_back(token);
  prompt.insert(prompt.end(), {5, 6});
  sequence->Append(prompt);
  const DraftTree tree = Proposal(*sequence);
  // A branch has 12 tokens after its first one; the context takes two of the 13.
  ASSERT_EQ(tree.size(), 11);
  for (int i = 0; i < tree.size(); ++i) {
    EXPECT_EQ(tree.nodes[static_cast<size_t>(i)].token, 7 + i);
    EXPECT_EQ(tree.nodes[static_cast<size_t>(i)].parent, i - 1);
  }
}

TEST(LookaheadTest, WhatFollowsTheLastTwoTokensIsDraftedInProportion) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 300; ++round) {
    const Tokens text = RandomText(random, 2 + random() % 80, 1 + random() % 5);
    LookaheadDrafter drafter({});
    const auto sequence = drafter.Begin("");
    sequence->Append(text);
    const DraftTree tree = Proposal(*sequence, kMaxDraftNodes, 1);
    std::map<int32_t, int> followers;
    std::map<int32_t, int> followers_of_one;
    for (size_t at = 1; at + 1 < text.size(); ++at) {
      if (text[at] != text.back()) continue;
      ++followers_of_one[text[at + 1]];
      if (text[at - 1] == text[text.size() - 2]) ++followers[text[at + 1]];
    }
    if (text[0] == text.back()) ++followers_of_one[text[1]];
    float share = 0;  // of a follower that was seen once
    for (const auto& [token, count] : followers) {
      const int node = tree.Child(-1, token);
      ASSERT_GE(node, 0);
      const float probability = tree.nodes[static_cast<size_t>(node)].probability;
      if (share == 0) share = probability / static_cast<float>(count);
      EXPECT_NEAR(probability, share * static_cast<float>(count), 1e-5);
    }
    for (const DraftNode& node : tree.nodes) EXPECT_TRUE(followers_of_one.contains(node.token));
    if (followers.empty()) {
      EXPECT_EQ(tree.nodes.size(), followers_of_one.size());
    }
  }
}

TEST(LookaheadTest, ThePromptOutweighsOutputs) {
  LookaheadDrafter drafter({});
  {
    const auto sequence = drafter.Begin("");
    sequence->Append(Tokens{0});
    for (int i = 0; i < 20; ++i) sequence->Append(Tokens{1, 2, 3});
  }
  const auto sequence = drafter.Begin("");
  sequence->Append(Tokens{1, 2, 4, 5, 1, 2});
  const DraftTree tree = Proposal(*sequence, 80, 1);
  ASSERT_EQ(tree.size(), 2);
  EXPECT_EQ(tree.nodes[0].token, 4);
  EXPECT_EQ(tree.nodes[1].token, 3);
}

TEST(LookaheadTest, LearnsOutputsOfItsScopeAndOfNoOther) {
  LookaheadDrafter drafter({});
  {
    const auto sequence = drafter.Begin("a");
    sequence->Append(Tokens{1, 2, 3});
    sequence->Append(Tokens{4, 5, 6});
    sequence->Append(Tokens{7});
  }
  const auto first = [&drafter](const char* scope, const Tokens& prompt) {
    const auto sequence = drafter.Begin(scope);
    sequence->Append(prompt);
    const DraftTree tree = Proposal(*sequence);
    return tree.empty() ? -1 : tree.nodes[0].token;
  };
  EXPECT_EQ(first("a", {4, 5}), 6);
  EXPECT_EQ(first("a", {9, 6}), 7);
  EXPECT_EQ(first("a", {1, 2}), -1);  // a prompt's
  EXPECT_EQ(first("b", {4, 5}), -1);
}

TEST(LookaheadTest, ForgetsTheScopesBegunLongestAgo) {
  LookaheadOptions options;
  options.max_scopes = 2;
  LookaheadDrafter drafter(options);
  for (const char* scope : {"a", "b", "c"}) {
    const auto sequence = drafter.Begin(scope);
    sequence->Append(Tokens{0});
    sequence->Append(Tokens{1, 2, 3});
  }
  const auto knows = [&drafter](const char* scope) {
    const auto sequence = drafter.Begin(scope);
    sequence->Append(Tokens{1, 2});
    return !Proposal(*sequence).empty();
  };
  EXPECT_TRUE(knows("b"));
  EXPECT_FALSE(knows("a"));
}

TEST(LookaheadTest, TellsOthersItsPastOutputsOnce) {
  LookaheadDrafter drafter({.vocab_size = 10});
  LookaheadDrafter replica({.vocab_size = 10});
  {
    const auto sequence = drafter.Begin("a");
    sequence->Append(Tokens{1, 2, 3});
    sequence->Append(Tokens{4, 5});
    EXPECT_EQ(drafter.TakeLearned("a", 1 << 16), "") << "it has not ended";
    sequence->Append(Tokens{6, 7, 8});
  }
  const std::string learned = drafter.TakeLearned("a", 1 << 16);
  EXPECT_FALSE(learned.empty());
  EXPECT_EQ(drafter.TakeLearned("a", 1 << 16), "");
  ASSERT_TRUE(replica.Teach("a", learned).ok());
  EXPECT_EQ(replica.TakeLearned("a", 1 << 16), "") << "it is no output of its own";
  const auto tokens = [&replica](const char* scope, const Tokens& prompt) {
    const auto sequence = replica.Begin(scope);
    sequence->Append(prompt);
    Tokens drafted;
    for (const DraftNode& node : Proposal(*sequence).nodes) drafted.push_back(node.token);
    return drafted;
  };
  EXPECT_EQ(tokens("a", {9, 4, 5}), (Tokens{6, 7, 8}));
  EXPECT_EQ(tokens("a", {1, 2}), Tokens()) << "a prompt's";
  EXPECT_EQ(tokens("b", {9, 4, 5}), Tokens());
  EXPECT_FALSE(replica.Teach("a", learned + "x").ok());
  EXPECT_FALSE(LookaheadDrafter({.vocab_size = 9}).Teach("a", learned).ok());
}

TEST(LookaheadTest, LongRandomStreamsGiveGoodTreesInBoundedMemory) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  LookaheadOptions options;
  options.branch = 5;
  options.prompt_nodes = 50;
  options.scope_nodes = 200;
  options.max_scopes = 2;
  LookaheadDrafter drafter(options);
  LookaheadDrafter twin(options);
  // At most three scopes, one of them only because it runs.
  RunRandomStreams(random, drafter, twin, 3 * (206 * 80U + 1000));
}

}  // namespace
}  // namespace octogate::workers
