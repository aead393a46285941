// Calls of a real server while the wall clock is set: none fails for it, and none lasts longer.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/redis/redis_store.h"
#include "common/steady_event.h"
#include "tests/common/redis/loopback_listener.h"
#include "tests/common/redis/redis_server.h"
#include "tests/common/wall_clock.h"

namespace octogate {
namespace {

// What a hung call would take a day for.
constexpr absl::Duration kSet = absl::Hours(24);
constexpr absl::Duration kLong = absl::Minutes(1);

class RedisClockTest : public testing::Test {
 protected:
  ~RedisClockTest() override { SetWallClockAhead(absl::ZeroDuration()); }

  RedisOptions Options() const {
    RedisOptions options = server_.options();
    options.timeouts = Patient(absl::Hours(1));
    return options;
  }

  // Whether all calls, each on a thread of its own, end while the clock is set by `ahead` once
  // `begun` says that they have begun. Where they do not, `end` has to end them.
  static bool EndWhileTheClockIsSet(absl::Duration ahead,
                                    const std::vector<std::function<void()>>& calls,
                                    const std::function<bool()>& begun,
                                    const std::function<void()>& end) {
    SteadyNotification ended;
    std::atomic<size_t> left = calls.size();
    std::vector<std::thread> threads;
    for (const std::function<void()>& call : calls) {
      threads.emplace_back([&] {
        call();
        if (--left == 0) ended.Notify();
      });
    }
    const absl::Time give_up = SteadyNow() + kLong;
    while (!begun() && SteadyNow() < give_up) absl::SleepFor(absl::Milliseconds(1));
    EXPECT_TRUE(begun());
    absl::SleepFor(absl::Milliseconds(20));  // until they wait
    SetWallClockAhead(ahead);
    const bool in_time = ended.WaitUntil(SteadyNow() + kLong);
    if (!in_time) end();
    SetWallClockAhead(absl::ZeroDuration());
    for (std::thread& thread : threads) thread.join();
    return in_time;
  }

  RedisServer server_;
};

TEST_F(RedisClockTest, TheClockOfThisTestIsSet) {
  const absl::Time before = absl::Now();
  SetWallClockAhead(kSet);
  EXPECT_GE(absl::Now() - before, kSet);
  SetWallClockAhead(-kSet);
  EXPECT_LT(absl::Now(), before);
  SetWallClockAhead(absl::ZeroDuration());
  // What waits by it notices: this wait would last an hour.
  const absl::Notification never;
  EXPECT_TRUE(EndWhileTheClockIsSet(
      kSet, {[&] { EXPECT_FALSE(never.WaitForNotificationWithTimeout(absl::Hours(1))); }},
      [] { return true; }, [] {}));
}

// The caller itself waits for the server, or, with several of them, the client's thread does.
TEST_F(RedisClockTest, CallsUnderWayOutliveAClockThatIsSetForward) {
  for (const size_t callers : {1, 3}) {
    SCOPED_TRACE(callers);
    const auto client = RedisClient::Create(Options());
    ASSERT_TRUE(client->Call({"PING"}, absl::Now() + kLong).ok());
    const auto call = [&] {
      const auto reply = client->Call({"BLPOP", "none", "4"}, absl::Now() + kLong);
      EXPECT_TRUE(reply.ok()) << reply.status();
    };
    EXPECT_TRUE(EndWhileTheClockIsSet(
        kSet, std::vector<std::function<void()>>(callers, call),
        [&] { return client->stats().pending_bytes > 0; }, [] {}));
  }
}

// Of a store's call that asks the server twice the second time is the first one's.
TEST_F(RedisClockTest, WhatAsksTwiceOutlivesAClockThatIsSetForwardInBetween) {
  const auto client = RedisClient::Create(Options());
  const auto store = MakeRedisStore(client.get());
  ASSERT_TRUE(store->Put("a/1", "x", absl::InfiniteFuture(), absl::Now() + kLong).ok());
  server_.Freeze();
  EXPECT_TRUE(EndWhileTheClockIsSet(
      kSet,
      {[&] {
         const auto names = store->List("", "", 10, absl::Now() + kLong);
         ASSERT_TRUE(names.ok()) << names.status();
         EXPECT_EQ(names->size(), 1U);
       },
       [&] {
         absl::SleepFor(absl::Seconds(4));
         server_.Thaw();
       }},
      [&] { return client->stats().pending_bytes > 0; }, [&] { server_.Thaw(); }));
}

TEST_F(RedisClockTest, ACallOfAFrozenServerEndsThoughTheClockIsSetBack) {
  for (const size_t callers : {1, 3}) {
    SCOPED_TRACE(callers);
    const auto client = RedisClient::Create(Options());
    ASSERT_TRUE(client->Call({"PING"}, absl::Now() + kLong).ok());
    server_.Freeze();
    const auto call = [&] {
      EXPECT_EQ(client->Call({"PING"}, absl::Now() + absl::Seconds(4)).status().code(),
                absl::StatusCode::kDeadlineExceeded);
    };
    EXPECT_TRUE(EndWhileTheClockIsSet(
        -kSet, std::vector<std::function<void()>>(callers, call),
        [&] { return client->stats().pending_bytes > 0; }, [&] { server_.Thaw(); }));
    server_.Thaw();
    EXPECT_TRUE(client->Call({"PING"}, absl::Now() + kLong).ok());
  }
}

TEST_F(RedisClockTest, ACallOfASilentClusterEndsThoughTheClockIsSetBack) {
  auto silent = std::make_unique<LoopbackListener>();
  RedisOptions options{.port = silent->port(), .cluster = true};
  options.timeouts = Patient(absl::Hours(1));
  options.timeouts.connect = absl::Hours(1);
  const auto client = RedisClient::Create(options);
  EXPECT_TRUE(EndWhileTheClockIsSet(
      -kSet, {[&] {
        EXPECT_EQ(client->Call({"PING"}, absl::Now() + absl::Seconds(4)).status().code(),
                  absl::StatusCode::kDeadlineExceeded);
      }},
      [&] { return client->stats().calls > 0; }, [&] { silent = nullptr; }));
  silent = nullptr;  // what asks it at the client's end is told so
}

}  // namespace
}  // namespace octogate
