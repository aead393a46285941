#include "common/steady_event.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "absl/time/time.h"

namespace octogate {
namespace {

TEST(SteadyEventTest, WhatWasSetIsSaidOnce) {
  SteadyEvent event;
  EXPECT_FALSE(event.WaitFor(absl::ZeroDuration()));
  event.Set();
  event.Set();
  EXPECT_TRUE(event.WaitFor(absl::ZeroDuration()));
  EXPECT_FALSE(event.WaitFor(absl::Milliseconds(1)));
}

TEST(SteadyEventTest, OddTimeoutsAreNone) {
  SteadyEvent event;
  EXPECT_FALSE(event.WaitFor(-absl::InfiniteDuration()));
  event.Set();
  EXPECT_TRUE(event.WaitFor(absl::InfiniteDuration()));
}

TEST(SteadyEventTest, WhoeverWaitsIsWoken) {
  constexpr int kTimes = 1000;
  SteadyEvent event;
  SteadyEvent heard;
  std::atomic<int> count = 0;
  std::thread waiter([&] {
    while (count < kTimes) {
      if (!event.WaitFor(absl::Minutes(10))) continue;
      ++count;
      heard.Set();
    }
  });
  for (int i = 1; i <= kTimes; ++i) {
    event.Set();
    ASSERT_TRUE(heard.WaitFor(absl::Minutes(10)));
    ASSERT_EQ(count, i);
  }
  waiter.join();
}

TEST(SteadyNotificationTest, WhatHasHappenedIsSaidToAllWhoWait) {
  SteadyNotification notification;
  EXPECT_FALSE(notification.HasBeenNotified());
  EXPECT_FALSE(notification.WaitUntil(absl::InfinitePast()));
  EXPECT_FALSE(notification.WaitUntil(SteadyNow() + absl::Milliseconds(1)));
  int seen = 0;
  std::vector<std::thread> waiters;
  for (int i = 0; i < 4; ++i) {
    waiters.emplace_back([&] {
      EXPECT_TRUE(notification.WaitUntil(absl::InfiniteFuture()));
      EXPECT_EQ(seen, 1);
    });
  }
  seen = 1;
  notification.Notify();
  notification.Notify();
  for (std::thread& waiter : waiters) waiter.join();
  EXPECT_TRUE(notification.HasBeenNotified());
  EXPECT_TRUE(notification.WaitUntil(absl::InfinitePast()));
}

// Of one that went while it is notified, sanitizers tell.
TEST(SteadyNotificationTest, WhoeverLearnsOfItMayEndItAtOnce) {
  for (int i = 0; i < 1000; ++i) {
    auto notification = std::make_unique<SteadyNotification>();
    std::thread notifier([raw = notification.get()] { raw->Notify(); });
    while (!notification->HasBeenNotified()) std::this_thread::yield();
    notification = nullptr;
    notifier.join();
  }
}

}  // namespace
}  // namespace octogate
