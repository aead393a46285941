#include "kernels/cpu/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <chrono>
#include <exception>

namespace octogate::kernels {
namespace {

constexpr uint64_t kCountMask = 0xFFFFFFFFu;
constexpr std::chrono::microseconds kSpinTime{100};

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Waits until done() holds, spinning for at most kSpinTime. Returns done().
template <typename Done>
bool SpinUntil(const Done& done) {
  constexpr int kPausesPerYield = 64;
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < kPausesPerYield; ++i) {
      if (done()) return true;
      Pause();
    }
    std::this_thread::yield();
  } while (std::chrono::steady_clock::now() < deadline);
  return done();
}

// Binds the calling thread to the index-th CPU that it may use, round and round.
void PinToCpu(int index) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  const int count = CPU_COUNT(&allowed);
  if (count == 0) return;
  int skip = index % count;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || skip-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
    return;
  }
}

}  // namespace

ThreadPool::ThreadPool(int threads, int first_cpu) : first_cpu_(first_cpu) {
  try {
    for (int i = 1; i < threads; ++i) {
      workers_.emplace_back([this, i] {
        if (first_cpu_ != kAnyCpu) PinToCpu(first_cpu_ + i);
        WorkerLoop(i);
      });
    }
  } catch (const std::exception&) {
    // No more threads to be had: work goes on with those that started.
  }
}

ThreadPool::~ThreadPool() {
  stopping_.store(true);
  wakeups_.fetch_add(1);
  wakeups_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::BindCaller() const {
  if (first_cpu_ != kAnyCpu) PinToCpu(first_cpu_);
}

void ThreadPool::RunShared(int tasks, Function function, const void* context) {
  function_.store(function, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  tasks_.store(tasks, std::memory_order_relaxed);
  unfinished_.store(tasks, std::memory_order_relaxed);
  const uint64_t operation = (ticket_.load(std::memory_order_relaxed) >> 32) + 1;
  ticket_.store((operation << 32) | static_cast<uint32_t>(tasks), std::memory_order_release);
  // Sequentially consistent with the sleepers' count: a thread that is about to
  // sleep either is counted here or sees the change.
  wakeups_.fetch_add(1);
  if (sleepers_.load() > 0) wakeups_.notify_all();

  RunTasks(0);
  const auto finished = [this] { return unfinished_.load(std::memory_order_acquire) == 0; };
  if (SpinUntil(finished)) return;
  caller_sleeps_.store(true);
  for (int left = unfinished_.load(); left != 0; left = unfinished_.load()) {
    unfinished_.wait(left);
  }
  caller_sleeps_.store(false, std::memory_order_relaxed);
}

void ThreadPool::RunTasks(int thread) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while ((ticket & kCountMask) != 0) {
    if (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
      continue;
    }
    const int left = static_cast<int>(ticket & kCountMask);
    const int task = tasks_.load(std::memory_order_relaxed) - left;
    const Function function = function_.load(std::memory_order_relaxed);
    function(context_.load(std::memory_order_relaxed), task, thread);
    // Sequentially consistent with caller_sleeps_, as above.
    if (unfinished_.fetch_sub(1) == 1 && caller_sleeps_.load()) unfinished_.notify_one();
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

void ThreadPool::WorkerLoop(int thread) {
  while (true) {
    // The order matters: whoever stops the pool says so first and wakes then, so that what was
    // seen after its wake-up is seen to have been stopped.
    const uint32_t seen = wakeups_.load();
    if (stopping_.load()) return;
    RunTasks(thread);
    const auto changed = [this, seen] { return wakeups_.load(std::memory_order_acquire) != seen; };
    if (SpinUntil(changed)) continue;
    sleepers_.fetch_add(1);
    if (wakeups_.load() == seen) wakeups_.wait(seen);
    sleepers_.fetch_sub(1);
  }
}

}  // namespace octogate::kernels
