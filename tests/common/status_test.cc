#include "common/status.h"

#include <gtest/gtest.h>

namespace octogate {
namespace {

TEST(StatusTest, AnnotateNamesThePlaceAndKeepsTheRest) {
  const absl::Status status =
      Annotate(WithRetryAfter(absl::ResourceExhaustedError("full"), absl::Seconds(2)), "node 'a'");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "node 'a': full");
  EXPECT_EQ(RetryAfter(status), absl::Seconds(2));
  EXPECT_TRUE(Annotate(absl::OkStatus(), "node 'a'").ok());
}

TEST(StatusTest, WithoutAHintThereIsNoRetryAfter) {
  EXPECT_EQ(RetryAfter(absl::OkStatus()), absl::ZeroDuration());
  EXPECT_EQ(RetryAfter(absl::ResourceExhaustedError("full")), absl::ZeroDuration());
}

TEST(StatusTest, HintsAreRoundedUpAndBounded) {
  const auto hint = [](absl::Duration wanted) {
    return RetryAfter(WithRetryAfter(absl::ResourceExhaustedError("full"), wanted));
  };
  EXPECT_EQ(hint(absl::Milliseconds(20)), absl::Milliseconds(20));
  EXPECT_EQ(hint(absl::Microseconds(1500)), absl::Milliseconds(2));
  EXPECT_EQ(hint(absl::ZeroDuration()), absl::Milliseconds(1));
  EXPECT_EQ(hint(-absl::InfiniteDuration()), absl::Milliseconds(1));
  EXPECT_EQ(hint(absl::InfiniteDuration()), kMaxRetryAfter);
}

}  // namespace
}  // namespace octogate
