// Runs functions one at a time, in the order in which they came, without blocking anybody.
#ifndef OCTOGATE_GATEWAY_SERIALIZER_H_
#define OCTOGATE_GATEWAY_SERIALIZER_H_

#include <functional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace octogate::gateway {

// A function given to Run runs before Run returns, unless another one is running: then the thread
// that runs the other one goes on with it. So a function may call Run; what it adds runs after it.
// No lock is held while a function runs.
//
// Thread safety: Run may be called from any thread. The functions keep the serializer alive.
class Serializer {
 public:
  template <typename Function>
  void Run(Function&& function) {
    {
      absl::MutexLock lock(&mutex_);
      if (running_) {
        waiting_.emplace_back(std::forward<Function>(function));
        return;
      }
      running_ = true;
    }
    function();
    RunWaiting();
  }

 private:
  void RunWaiting() {
    std::vector<std::function<void()>> batch;
    for (;;) {
      batch.clear();
      {
        absl::MutexLock lock(&mutex_);
        if (waiting_.empty()) {
          running_ = false;
          return;
        }
        batch.swap(waiting_);
      }
      for (const std::function<void()>& function : batch) function();
    }
  }

  absl::Mutex mutex_;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SERIALIZER_H_
