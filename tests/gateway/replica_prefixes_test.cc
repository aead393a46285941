// What a gateway takes a replica to hold: no more than was said or sent, bounded, and nothing that
// makes no sense.
#include "gateway/replica_prefixes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "workers/server/prompt_blocks.h"

namespace octogate::gateway {
namespace {

using workers::PromptBlocks;
using Hashes = std::vector<uint32_t>;

v1::PrefixSummary Summary(Hashes blocks) {
  std::sort(blocks.begin(), blocks.end());
  v1::PrefixSummary summary;
  summary.set_block_bytes(static_cast<int32_t>(PromptBlocks::kBlockBytes));
  summary.mutable_blocks()->Add(blocks.begin(), blocks.end());
  return summary;
}

Hashes RandomHashes(size_t count) {
  static std::mt19937 random{std::random_device()()};
  Hashes hashes(count);
  std::generate(hashes.begin(), hashes.end(), [] { return static_cast<uint32_t>(random()); });
  return hashes;
}

TEST(ReplicaPrefixesTest, MatchesWhatTheSummaryHasOfAPrompt) {
  for (const size_t length : {1, 2, 3, 7, 8, 100, 4096}) {
    const Hashes prompt = RandomHashes(length);
    for (const size_t held : {size_t{0}, size_t{1}, length / 3, length / 2, length - 1, length}) {
      ReplicaPrefixes prefixes;
      EXPECT_EQ(prefixes.Matched(prompt), 0U);
      auto blocks = ReplicaPrefixes::Parse(Summary(Hashes(prompt.begin(), prompt.begin() + held)));
      ASSERT_TRUE(blocks.ok()) << blocks.status();
      prefixes.SetSummary(*std::move(blocks));
      EXPECT_EQ(prefixes.Matched(prompt), held) << "of " << length;
      EXPECT_EQ(prefixes.Matched({}), 0U);
    }
  }
}

TEST(ReplicaPrefixesTest, WhatWasSentCountsUntilTheSummaryAfterNext) {
  ReplicaPrefixes prefixes;
  const Hashes prompt = RandomHashes(10);
  prefixes.OnSent(prompt);
  EXPECT_EQ(prefixes.Matched(prompt), 0U) << "of a replica that does not say what it holds";
  prefixes.SetSummary({});
  // Sent before a summary, it may not have been read then.
  EXPECT_EQ(prefixes.Matched(prompt), 10U);
  prefixes.SetSummary({});
  EXPECT_EQ(prefixes.Matched(prompt), 0U);
}

TEST(ReplicaPrefixesTest, WhatWasRefusedDoesNotCount) {
  ReplicaPrefixes prefixes;
  prefixes.SetSummary({});
  const Hashes prompt = RandomHashes(10);
  prefixes.OnSent(prompt);
  prefixes.OnRefused(prompt);
  EXPECT_EQ(prefixes.Matched(prompt), 0U);
  prefixes.OnSent(prompt);
  prefixes.Clear();
  EXPECT_FALSE(prefixes.known());
  EXPECT_EQ(prefixes.Matched(prompt), 0U);
}

TEST(ReplicaPrefixesTest, KeepsNoMoreThanASummaryMayHave) {
  ReplicaPrefixes prefixes;
  prefixes.SetSummary({});
  const Hashes first = RandomHashes(100);
  prefixes.OnSent(first);
  for (size_t sent = 0; sent < 2 * PromptBlocks::kMaxSummaryBlocks; sent += 1000) {
    prefixes.OnSent(RandomHashes(1000));
  }
  EXPECT_EQ(prefixes.Matched(first), 0U);
}

TEST(ReplicaPrefixesTest, RefusesWhatMakesNoSense) {
  EXPECT_TRUE(ReplicaPrefixes::Parse(Summary({})).ok());
  EXPECT_TRUE(ReplicaPrefixes::Parse(Summary(RandomHashes(PromptBlocks::kMaxSummaryBlocks))).ok());
  for (const int32_t bytes : {0, -1, 1, 255, 512, std::numeric_limits<int32_t>::min()}) {
    v1::PrefixSummary summary = Summary({1, 2});
    summary.set_block_bytes(bytes);
    EXPECT_FALSE(ReplicaPrefixes::Parse(summary).ok()) << bytes;
  }
  EXPECT_FALSE(
      ReplicaPrefixes::Parse(Summary(RandomHashes(PromptBlocks::kMaxSummaryBlocks + 1))).ok());
  v1::PrefixSummary unsorted = Summary({1, 2, 3});
  unsorted.set_blocks(1, 7);
  EXPECT_FALSE(ReplicaPrefixes::Parse(unsorted).ok());
}

}  // namespace
}  // namespace octogate::gateway
