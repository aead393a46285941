// A few threads for calls that wait, so that they do not hold up the threads of
// gRPC. Bounded: what exceeds the queue is refused.
//
// Thread safety: Submit may be called from any thread. The destructor runs what
// is queued and joins.

#ifndef OCTOGATE_WORKERS_SERVER_BLOCKING_POOL_H_
#define OCTOGATE_WORKERS_SERVER_BLOCKING_POOL_H_

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace octogate::workers {

class BlockingPool {
 public:
  BlockingPool(int threads, size_t max_queued);
  ~BlockingPool();
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  // False, and `work` is not run, where the queue is full.
  [[nodiscard]] bool Submit(std::function<void()> work);

 private:
  void Run();

  const size_t max_queued_;
  absl::Mutex mutex_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_BLOCKING_POOL_H_
