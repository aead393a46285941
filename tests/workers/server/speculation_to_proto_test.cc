#include "workers/server/speculation_to_proto.h"

#include <gtest/gtest.h>

namespace octogate::workers {
namespace {

TEST(SpeculationToProtoTest, EveryNumberHasItsPlace) {
  SpeculationUsage usage{.steps = 7,
                         .tokens = {.drafted = 20, .accepted = 9},
                         .drafters = {{"recycling", {15, 5}}, {"suffix", {8, 6}}},
                         .depths = {{12, 6}, {8, 3}},
                         .draft = absl::Microseconds(11),
                         .verify = absl::Milliseconds(12),
                         .plain = absl::Seconds(13)};
  const v1::SpeculationUsage message = ToProto(usage);
  EXPECT_EQ(message.steps(), 7);
  EXPECT_EQ(message.drafted_tokens(), 20);
  EXPECT_EQ(message.accepted_tokens(), 9);
  ASSERT_EQ(message.drafters_size(), 2);
  EXPECT_EQ(message.drafters(0).drafter(), "recycling");
  EXPECT_EQ(message.drafters(1).drafted_tokens(), 8);
  EXPECT_EQ(message.drafters(1).accepted_tokens(), 6);
  ASSERT_EQ(message.depths_size(), 2);
  EXPECT_EQ(message.depths(0).drafted_tokens(), 12);
  EXPECT_EQ(message.depths(1).accepted_tokens(), 3);
  EXPECT_EQ(message.draft_us(), 11);
  EXPECT_EQ(message.verify_us(), 12000);
  EXPECT_EQ(message.plain_us(), 13000000);
}

}  // namespace
}  // namespace octogate::workers
