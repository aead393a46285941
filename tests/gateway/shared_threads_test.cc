// What one tenant may have waiting, whose turn it is, and that nothing that was taken is lost.
#include "gateway/shared_threads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "common/status.h"

namespace octogate::gateway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Threads that are all busy until Release.
class Busy {
 public:
  Busy(int threads, size_t max_waiting) : threads_(threads, max_waiting, "links") {
    std::atomic<int> started{0};
    absl::Notification all;
    for (int i = 0; i < threads; ++i) {
      // One after the other: more than may wait can run.
      absl::Notification one;
      const absl::Status status = threads_.Submit("first", [&] {
        if (++started == threads) all.Notify();
        one.Notify();
        release_.WaitForNotification();
      });
      EXPECT_TRUE(status.ok()) << status;
      one.WaitForNotification();
    }
    all.WaitForNotification();
  }
  ~Busy() { Release(); }
  void Release() {
    if (!release_.HasBeenNotified()) release_.Notify();
  }
  SharedThreads& operator*() { return threads_; }
  SharedThreads* operator->() { return &threads_; }

 private:
  absl::Notification release_;
  SharedThreads threads_;
};

TEST(SharedThreadsTest, OneTenantFillsHalfOfThePlacesAndOthersFindTheRest) {
  Busy threads(2, 8);
  const auto submit = [&](const std::string& tenant) { return threads->Submit(tenant, [] {}); };
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(submit("greedy").ok()) << i;
  const absl::Status refused = submit("greedy");
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("tenant \"greedy\" has 4 links waiting, as many as one tenant may"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("try again in"));
  EXPECT_GT(RetryAfter(refused), absl::ZeroDuration());
  // Who has none waiting finds a place as long as there is one.
  for (const char* const tenant : {"a", "b", "c", "d"}) EXPECT_TRUE(submit(tenant).ok()) << tenant;
  const absl::Status full = submit("e");
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("8 links wait, as many as may"));
  EXPECT_GT(RetryAfter(full), absl::ZeroDuration());
}

TEST(SharedThreadsTest, TenantsTakeTurns) {
  std::vector<std::string> order;
  {
    Busy threads(1, 64);
    for (const char* const work : {"a1", "a2", "a3", "a4", "b1", "b2", "c1"}) {
      // The only thread writes.
      ASSERT_TRUE(
          threads->Submit(std::string(work, 1), [&order, work] { order.push_back(work); }).ok());
    }
    threads.Release();
  }
  EXPECT_THAT(order, ElementsAre("a1", "b1", "c1", "a2", "b2", "a3", "a4"));
}

// Whatever comes from whom: what was taken runs once and in its tenant's order, and no tenant has
// more waiting than places are left when the last of it comes.
TEST(SharedThreadsTest, WhatIsTakenRunsOnceAndInItsOrder) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 50; ++round) {
    const size_t places = random() % 20;
    absl::Mutex mutex;
    std::map<std::string, std::vector<int>> taken, ran;
    std::map<std::string, size_t> waiting;
    size_t all = 0;
    {
      // What does not wait has been taken by a thread, which is busy: none here, but at least one
      // place is needed to keep it so.
      Busy threads(1, places + 1);
      for (int i = 0; i < 100; ++i) {
        const std::string tenant(1, static_cast<char>('a' + std::min(random() % 5, random() % 5)));
        const absl::Status status = threads->Submit(tenant, [&, tenant, i] {
          const absl::MutexLock lock(&mutex);
          ran[tenant].push_back(i);
        });
        const bool room = all < places + 1 && waiting[tenant] < places + 1 - all;
        ASSERT_EQ(status.ok(), room) << status << " with " << all << " waiting";
        if (!status.ok()) continue;
        taken[tenant].push_back(i);
        ++waiting[tenant];
        ++all;
      }
      threads.Release();
    }
    EXPECT_EQ(ran, taken);
  }
}

TEST(SharedThreadsTest, ThreadsOfManyTenantsLoseNothing) {
  std::atomic<int> ran{0}, taken{0};
  {
    SharedThreads threads(3, 16, "links");
    std::vector<std::thread> clients;
    for (int t = 0; t < 4; ++t) {
      clients.emplace_back([&, t] {
        for (int i = 0; i < 500; ++i) {
          if (threads.Submit(absl::StrCat(t % 3), [&] { ++ran; }).ok()) ++taken;
        }
      });
    }
    for (std::thread& client : clients) client.join();
  }
  EXPECT_EQ(ran, taken);
  EXPECT_GT(taken, 0);
}

TEST(SharedThreadsTest, WithoutPlacesNothingIsTaken) {
  SharedThreads threads(1, 0, "links");
  EXPECT_EQ(threads.Submit("a", [] { FAIL(); }).code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace octogate::gateway
