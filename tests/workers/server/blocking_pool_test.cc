#include "workers/server/blocking_pool.h"

#include <gtest/gtest.h>

#include <atomic>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"

namespace octogate::workers {
namespace {

TEST(BlockingPoolTest, RefusesWhatExceedsItsQueue) {
  BlockingPool pool(/*threads=*/1, /*max_queued=*/2);
  absl::Notification started;
  absl::Notification release;
  ASSERT_TRUE(pool.Submit([&] {
    started.Notify();
    release.WaitForNotification();
  }));
  started.WaitForNotification();
  EXPECT_TRUE(pool.Submit([] {}));
  EXPECT_TRUE(pool.Submit([] {}));
  EXPECT_FALSE(pool.Submit([] {}));
  release.Notify();
}

TEST(BlockingPoolTest, RunsAllThatItAcceptedBeforeItIsGone) {
  std::atomic<int> ran = 0;
  int accepted = 0;
  {
    BlockingPool pool(/*threads=*/3, /*max_queued=*/50);
    for (int i = 0; i < 200; ++i) accepted += pool.Submit([&] { ++ran; }) ? 1 : 0;
  }
  EXPECT_EQ(ran, accepted);
  EXPECT_GE(accepted, 50);
}

TEST(BlockingPoolTest, ThreadsWorkAtTheSameTime) {
  BlockingPool pool(/*threads=*/2, /*max_queued=*/2);
  absl::BlockingCounter both(2);
  absl::Notification release;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(pool.Submit([&] {
      both.DecrementCount();
      release.WaitForNotification();
    }));
  }
  both.Wait();  // returns only if both run
  release.Notify();
}

}  // namespace
}  // namespace octogate::workers
