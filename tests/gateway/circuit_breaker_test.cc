#include "gateway/circuit_breaker.h"

#include <gtest/gtest.h>

#include <random>

namespace octogate::gateway {
namespace {

using State = CircuitBreaker::State;

class CircuitBreakerTest : public testing::Test {
 protected:
  void Fail(int times) {
    for (int i = 0; i < times; ++i) breaker_.OnFailure(now_, /*is_probe=*/false);
  }
  // The time until the next probe is due, in steps of a millisecond.
  absl::Duration UntilProbe() {
    const absl::Time start = now_;
    while (!breaker_.TakeProbe(now_)) now_ += absl::Milliseconds(1);
    return now_ - start;
  }

  CircuitBreakerOptions options_{.failures_to_open = 3,
                                 .initial_pause = absl::Milliseconds(100),
                                 .max_pause = absl::Milliseconds(800),
                                 .jitter = 0.2};
  absl::Time now_ = absl::UnixEpoch();
  CircuitBreaker breaker_{options_, std::random_device()()};
};

TEST_F(CircuitBreakerTest, OpensAfterFailuresInARow) {
  Fail(2);
  breaker_.OnSuccess(/*is_probe=*/false);
  Fail(2);
  EXPECT_TRUE(breaker_.allows_calls());
  Fail(1);
  EXPECT_FALSE(breaker_.allows_calls());
  EXPECT_EQ(breaker_.state(), State::kOpen);
}

TEST_F(CircuitBreakerTest, OneProbeAtATimeDecides) {
  Fail(3);
  EXPECT_FALSE(breaker_.TakeProbe(now_));
  UntilProbe();
  EXPECT_EQ(breaker_.state(), State::kHalfOpen);
  EXPECT_FALSE(breaker_.TakeProbe(now_ + absl::Hours(1)));
  EXPECT_FALSE(breaker_.allows_calls());
  breaker_.OnSuccess(/*is_probe=*/true);
  EXPECT_TRUE(breaker_.allows_calls());
}

TEST_F(CircuitBreakerTest, PausesDoubleUpToTheLongestAndAreJittered) {
  Fail(3);
  for (const int expected : {100, 200, 400, 800, 800}) {
    const absl::Duration pause = UntilProbe();
    EXPECT_GE(pause, absl::Milliseconds(expected * 0.8 - 1));
    EXPECT_LE(pause, absl::Milliseconds(expected * 1.2 + 1));
    breaker_.OnFailure(now_, /*is_probe=*/true);
  }
}

TEST_F(CircuitBreakerTest, ASuccessfulProbeForgetsThePast) {
  Fail(3);
  UntilProbe();
  breaker_.OnFailure(now_, /*is_probe=*/true);
  UntilProbe();
  breaker_.OnSuccess(/*is_probe=*/true);
  Fail(2);
  EXPECT_TRUE(breaker_.allows_calls());
  Fail(1);
  EXPECT_LE(UntilProbe(), absl::Milliseconds(121));
}

TEST_F(CircuitBreakerTest, LateOutcomesOfOrdinaryCallsDoNotCount) {
  Fail(3);
  breaker_.OnSuccess(/*is_probe=*/false);
  EXPECT_EQ(breaker_.state(), State::kOpen);
  UntilProbe();
  Fail(10);
  EXPECT_EQ(breaker_.state(), State::kHalfOpen);
}

}  // namespace
}  // namespace octogate::gateway
