// A few threads that run the tasks of one operation together with the caller.
//
// Built for operations of tens of microseconds: tasks are claimed with one
// atomic operation, a waiting thread spins for a bounded time (giving up its
// time slice now and then, so that an oversubscribed machine goes on working)
// and then sleeps in the kernel until the next operation. The caller never
// waits for a thread that has claimed nothing.

#ifndef OCTOGATE_KERNELS_CPU_THREAD_POOL_H_
#define OCTOGATE_KERNELS_CPU_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace octogate::kernels {

class ThreadPool {
 public:
  static constexpr int kAnyCpu = -1;

  // `threads` counts the caller; 1 starts no thread. Starts fewer where the
  // system refuses. With a `first_cpu` each thread stays on a CPU of its own, of
  // those that the process may use, counted from 0 and from the last on to the
  // first: `first_cpu` is left for the caller.
  explicit ThreadPool(int threads, int first_cpu = kAnyCpu);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Binds the calling thread to the CPU that is left for it, where there is one,
  // for as long as the thread lives. Threads that it starts from then on share it.
  void BindCaller() const;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls f(task, thread) for every task in [0, tasks), in ascending order of
  // claiming, with thread in [0, threads()); returns when all calls have. One
  // thread may call Run at a time. `f` must not throw.
  template <typename F>
  void Run(int tasks, const F& f) {
    if (tasks <= 1 || workers_.empty()) {
      for (int task = 0; task < tasks; ++task) f(task, 0);
      return;
    }
    RunShared(
        tasks,
        [](const void* context, int task, int thread) {
          (*static_cast<const F*>(context))(task, thread);
        },
        &f);
  }

 private:
  using Function = void (*)(const void* context, int task, int thread);

  void RunShared(int tasks, Function function, const void* context);
  void WorkerLoop(int thread);
  // Claims and runs tasks until none is left.
  void RunTasks(int thread);

  // The current operation's number (high 32 bits) and its tasks not yet claimed
  // (low 32 bits). Whoever lowers the count owns one task, and until that task
  // is done the fields below stay as they are.
  std::atomic<uint64_t> ticket_{0};
  std::atomic<Function> function_{nullptr};
  std::atomic<const void*> context_{nullptr};
  std::atomic<int> tasks_{0};

  alignas(64) std::atomic<int> unfinished_{0};
  std::atomic<bool> caller_sleeps_{false};

  // Changes with every operation; what sleeping threads wait for.
  alignas(64) std::atomic<uint32_t> wakeups_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};

  const int first_cpu_;
  std::vector<std::thread> workers_;
};

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_THREAD_POOL_H_
