#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace octogate::kernels {
namespace {

TEST(ThreadPoolTest, OneThreadRunsTasksInOrderOnTheCaller) {
  ThreadPool pool(1);
  std::vector<int> seen;
  const auto caller = std::this_thread::get_id();
  pool.Run(5, [&](int task, int thread) {
    EXPECT_EQ(thread, 0);
    EXPECT_EQ(std::this_thread::get_id(), caller);
    seen.push_back(task);
  });
  EXPECT_EQ(seen, (std::vector<int>{0, 1, 2, 3, 4}));
  pool.Run(0, [](int, int) { FAIL(); });
}

// Operations follow each other at once, after a short and after a long pause,
// so that threads are found working, spinning and asleep.
TEST(ThreadPoolTest, EveryTaskRunsOnceBeforeRunReturns) {
  for (const int threads : {2, 3, 8}) {
    ThreadPool pool(threads, threads == 2 ? 0 : ThreadPool::kAnyCpu);
    ASSERT_EQ(pool.threads(), threads);
    for (int operation = 0; operation < 3000; ++operation) {
      const int tasks = operation % 37;
      std::vector<std::atomic<int>> counts(static_cast<size_t>(tasks));
      pool.Run(tasks, [&](int task, int thread) {
        EXPECT_GE(thread, 0);
        EXPECT_LT(thread, threads);
        counts[static_cast<size_t>(task)].fetch_add(1, std::memory_order_relaxed);
      });
      for (const auto& count : counts) ASSERT_EQ(count.load(std::memory_order_relaxed), 1);
      if (operation % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
}

TEST(ThreadPoolTest, NoTwoTasksShareAThreadAtATime) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> busy(4);
  for (int operation = 0; operation < 200; ++operation) {
    pool.Run(16, [&](int /*task*/, int thread) {
      EXPECT_EQ(busy[static_cast<size_t>(thread)].fetch_add(1), 0);
      std::this_thread::yield();
      busy[static_cast<size_t>(thread)].fetch_sub(1);
    });
  }
}

// What tasks write without synchronising is visible to the caller (and, under
// ThreadSanitizer, no race).
TEST(ThreadPoolTest, ResultsAreVisibleToTheCaller) {
  ThreadPool pool(3);
  std::vector<int> values(100);
  for (int operation = 1; operation <= 2000; ++operation) {
    pool.Run(100, [&](int task, int) { values[static_cast<size_t>(task)] += task; });
    ASSERT_EQ(values[99], 99 * operation);
    ASSERT_EQ(values[1], operation);
  }
}

TEST(ThreadPoolTest, StopsWhileItsThreadsSpinOrSleep) {
  for (int i = 0; i < 50; ++i) {
    ThreadPool pool(3);
    pool.Run(i % 3, [](int, int) {});
    if (i % 10 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

}  // namespace
}  // namespace octogate::kernels
