#include "common/task_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "absl/synchronization/notification.h"

namespace octogate {
namespace {

TEST(TaskThreadTest, RunsOneTaskAfterTheOtherOnItsThread) {
  TaskThread thread;
  thread.Wait();  // for nothing
  int count = 0;
  std::thread::id first;
  for (int i = 0; i < 100; ++i) {
    thread.Start([&] {
      if (i == 0) first = std::this_thread::get_id();
      if (std::this_thread::get_id() == first) ++count;
    });
    thread.Wait();
    ASSERT_EQ(count, i + 1);
  }
  EXPECT_NE(first, std::this_thread::get_id());
}

TEST(TaskThreadTest, RunsBesideItsOwnerAndWaitsForTheEnd) {
  TaskThread thread;
  absl::Notification go;
  std::atomic<bool> ended = false;
  thread.Start([&] {
    go.WaitForNotification();
    ended = true;
  });
  EXPECT_FALSE(ended);
  go.Notify();
  thread.Wait();
  EXPECT_TRUE(ended);
}

TEST(TaskThreadTest, ItsEndWaitsForTheTask) {
  std::atomic<bool> ended = false;
  {
    TaskThread thread;
    thread.Start([&] {
      std::this_thread::yield();
      ended = true;
    });
  }
  EXPECT_TRUE(ended);
}

}  // namespace
}  // namespace octogate
