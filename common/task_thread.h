// A thread that does one thing at a time beside the thread that owns it.
#ifndef OCTOGATE_COMMON_TASK_THREAD_H_
#define OCTOGATE_COMMON_TASK_THREAD_H_

#include <functional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace octogate {

// All calls by one thread. A task sees what happened before its Start, and whoever has waited for
// it sees what it did.
class TaskThread {
 public:
  TaskThread() : thread_([this] { Run(); }) {}
  // Waits for the task that runs.
  ~TaskThread() {
    {
      const absl::MutexLock lock(&mutex_);
      ending_ = true;
    }
    thread_.join();
  }
  TaskThread(const TaskThread&) = delete;
  TaskThread& operator=(const TaskThread&) = delete;

  // The one before has been waited for. `task` has to come to an end, and not to throw.
  void Start(std::function<void()> task) {
    const absl::MutexLock lock(&mutex_);
    task_ = std::move(task);
  }

  // Until the task has ended; at once where there is none.
  void Wait() {
    const absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(this, &TaskThread::idle));
  }

 private:
  bool idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return task_ == nullptr; }
  bool called() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return task_ != nullptr || ending_; }

  void Run() {
    absl::MutexLock lock(&mutex_);
    for (;;) {
      mutex_.Await(absl::Condition(this, &TaskThread::called));
      if (task_ == nullptr) return;
      // It stays where it is until it has ended: Wait asks for that.
      const std::function<void()>& task = task_;
      mutex_.Unlock();
      task();
      mutex_.Lock();
      task_ = nullptr;
    }
  }

  absl::Mutex mutex_;
  std::function<void()> task_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace octogate

#endif  // OCTOGATE_COMMON_TASK_THREAD_H_
