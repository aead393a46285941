#include "common/cancellation.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace octogate {
namespace {

TEST(CancellationTest, CallsEveryCallbackOnceInOrder) {
  const auto cancellation = std::make_shared<Cancellation>();
  std::vector<int> calls;
  const auto first = cancellation->OnCancel([&] { calls.push_back(1); });
  const auto second = cancellation->OnCancel([&] { calls.push_back(2); });
  EXPECT_FALSE(cancellation->IsCancelled());
  cancellation->Cancel();
  cancellation->Cancel();
  EXPECT_TRUE(cancellation->IsCancelled());
  EXPECT_EQ(calls, (std::vector<int>{1, 2}));
}

TEST(CancellationTest, CallsLateCallbacksAtOnce) {
  const auto cancellation = std::make_shared<Cancellation>();
  cancellation->Cancel();
  bool called = false;
  const auto registration = cancellation->OnCancel([&] { called = true; });
  EXPECT_TRUE(called);
}

TEST(CancellationTest, AnEndedRegistrationIsNotCalled) {
  const auto cancellation = std::make_shared<Cancellation>();
  bool called = false;
  {
    const auto registration = cancellation->OnCancel([&] { called = true; });
  }
  cancellation->Cancel();
  EXPECT_FALSE(called);
}

TEST(CancellationTest, ARegistrationMayEndInItsOwnCallback) {
  const auto cancellation = std::make_shared<Cancellation>();
  Cancellation::Registration registration;
  registration = cancellation->OnCancel([&] { registration.Reset(); });
  cancellation->Cancel();
  EXPECT_TRUE(cancellation->IsCancelled());
}

// What the callback uses is destroyed right after the registration has ended.
TEST(CancellationTest, EndingWaitsForARunningCallback) {
  for (int round = 0; round < 200; ++round) {
    const auto cancellation = std::make_shared<Cancellation>();
    auto used = std::make_unique<std::atomic<int>>(0);
    auto registration = cancellation->OnCancel([counter = used.get()] { ++*counter; });
    std::thread canceller([&] { cancellation->Cancel(); });
    registration.Reset();
    EXPECT_LE(*used, 1);
    used.reset();
    canceller.join();
  }
}

}  // namespace
}  // namespace octogate
