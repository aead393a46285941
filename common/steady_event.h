// Something that one thread waits for and others make happen.
#ifndef OCTOGATE_COMMON_STEADY_EVENT_H_
#define OCTOGATE_COMMON_STEADY_EVENT_H_

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "absl/time/time.h"

namespace octogate {

// For loops that do something now and then and are woken early. The timeouts of absl::Mutex and
// absl::Notification end by the wall clock: of one that is set back by an hour, a wait of 100 ms
// lasts an hour. This one ends by the steady clock. Thread-safe.
class SteadyEvent {
 public:
  void Set() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      set_ = true;
    }
    changed_.notify_one();
  }

  // Whether it was set since the last call that said so, waiting at most `timeout`; negative ones
  // are none, and an hour is the longest.
  bool WaitFor(absl::Duration timeout) {
    timeout = std::clamp(timeout, absl::ZeroDuration(), absl::Hours(1));
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout), [this] { return set_; });
    return std::exchange(set_, false);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool set_ = false;  // under mutex_
};

}  // namespace octogate

#endif  // OCTOGATE_COMMON_STEADY_EVENT_H_
