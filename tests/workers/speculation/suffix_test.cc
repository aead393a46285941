// What the suffix drafter proposes, beside a search through the text.
#include "workers/speculation/suffix.h"

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

TEST(SuffixTest, DraftsACopyAsDeepAsItsMatchIsLong) {
  SuffixOptions options;
  options.depth_per_length = 1;
  options.min_depth = 1;
  SuffixDrafter drafter(options);
  Tokens text;
  for (int32_t token = 0; token < 40; ++token) text.push_back(token);
  for (size_t length = 1; length < 12; ++length) {
    const auto sequence = drafter.Begin(absl::StrCat(length));
    Tokens prompt = text;
    prompt.insert(prompt.end(), text.begin(), text.begin() + static_cast<int64_t>(length));
    sequence->Append(prompt);
    const DraftTree tree = Proposal(*sequence);
    ASSERT_EQ(tree.size(), static_cast<int>(length));
    for (int i = 0; i < tree.size(); ++i) {
      EXPECT_EQ(tree.nodes[static_cast<size_t>(i)].token, static_cast<int32_t>(length) + i);
      EXPECT_EQ(tree.nodes[static_cast<size_t>(i)].parent, i - 1);
    }
  }
}

TEST(SuffixTest, WhatFollowsTheLongestEndIsDraftedInProportion) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 300; ++round) {
    const Tokens text = RandomText(random, 2 + random() % 100, 2 + random() % 5);
    std::map<int32_t, int> followers;
    for (size_t length = text.size() - 1; length > 0 && followers.empty(); --length) {
      for (size_t at = 0; at + length < text.size(); ++at) {
        if (std::equal(text.end() - static_cast<int64_t>(length), text.end(),
                       text.begin() + static_cast<int64_t>(at))) {
          ++followers[text[at + length]];
        }
      }
    }
    SuffixDrafter drafter({});
    const auto sequence = drafter.Begin("");
    sequence->Append(text);
    const DraftTree tree = Proposal(*sequence, kMaxDraftNodes, 1);
    float share = 0;  // of a follower that was seen once
    for (const auto& [token, count] : followers) {
      const int node = tree.Child(-1, token);
      ASSERT_GE(node, 0);
      const float probability = tree.nodes[static_cast<size_t>(node)].probability;
      if (share == 0) share = probability / static_cast<float>(count);
      EXPECT_NEAR(probability, share * static_cast<float>(count), 1e-5);
    }
    if (followers.empty()) {
      EXPECT_TRUE(tree.empty());
    }
  }
}

TEST(SuffixTest, LearnsOutputsOfItsScopeAndOfNoOther) {
  SuffixDrafter drafter({});
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

TEST(SuffixTest, ForgetsTheOldestTextAndTheOldestScopes) {
  SuffixOptions options;
  options.scope_tokens = 100;
  options.request_tokens = 100;
  options.max_scopes = 2;
  SuffixDrafter drafter(options);
  const auto teach = [&drafter](const std::string& scope, int32_t from, int32_t count) {
    const auto sequence = drafter.Begin(scope);
    sequence->Append(Tokens{100000});
    for (int32_t token = from; token < from + count; ++token) sequence->Append(Tokens{token});
  };
  const auto knows = [&drafter](const std::string& scope, int32_t token) {
    const auto sequence = drafter.Begin(scope);
    sequence->Append(Tokens{token});
    const DraftTree tree = Proposal(*sequence);
    return !tree.empty() && tree.nodes[0].token == token + 1;
  };
  teach("a", 0, 90);
  EXPECT_TRUE(knows("a", 50));
  teach("a", 1000, 90);
  EXPECT_TRUE(knows("a", 50));
  EXPECT_TRUE(knows("a", 1050));
  teach("a", 2000, 90);
  teach("a", 3000, 90);
  EXPECT_FALSE(knows("a", 50));
  EXPECT_TRUE(knows("a", 3050));
  teach("b", 0, 20);
  teach("c", 0, 20);
  EXPECT_TRUE(knows("b", 5));
  EXPECT_FALSE(knows("a", 3050));
}

TEST(SuffixTest, ForgetsTheOldestScopesBeyondItsMemory) {
  SuffixOptions options;
  options.scope_tokens = 1000;
  const auto teach = [](SuffixDrafter& drafter, const std::string& scope) {
    const auto sequence = drafter.Begin(scope);
    for (int32_t token = 0; token < 900; ++token) sequence->Append(Tokens{token});
  };
  uint64_t whole = 0;  // of two scopes that know as much
  {
    SuffixDrafter drafter(options);
    for (const char* scope : {"a", "b"}) teach(drafter, scope);
    drafter.Begin("a");  // takes what waits
    drafter.Begin("b");
    whole = drafter.bytes();
  }
  options.max_bytes = whole * 3 / 4;
  SuffixDrafter drafter(options);
  for (const char* scope : {"a", "b", "c"}) teach(drafter, scope);
  EXPECT_FALSE(drafter.Has("a"));
  EXPECT_TRUE(drafter.Has("c"));
  drafter.Begin("c");
  EXPECT_LE(drafter.bytes(), options.max_bytes);
  // What a running sequence uses stays, whatever it takes.
  options.max_bytes = 1;
  SuffixDrafter none(options);
  const auto running = none.Begin("a");
  teach(none, "b");
  EXPECT_TRUE(none.Has("a"));
  none.Begin("c");
  EXPECT_FALSE(none.Has("b"));
}

TEST(SuffixTest, LongRandomStreamsGiveGoodTreesInBoundedMemory) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  SuffixOptions options;
  options.request_tokens = 300;
  options.scope_tokens = 500;
  options.max_scopes = 2;
  SuffixDrafter drafter(options);
  SuffixDrafter twin(options);
  // At most three scopes, one of them only because it runs, of two automata each.
  RunRandomStreams(random, drafter, twin, 3 * 2 * 500 * 250U + 3 * 2000);
}

}  // namespace
}  // namespace octogate::workers
