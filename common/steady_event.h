// What threads wait for and others make happen, by a clock that nobody sets.
//
// The timeouts of absl::Mutex and absl::Notification end by the wall clock: of one that is set back
// by an hour, a wait of 100 ms lasts an hour.
#ifndef OCTOGATE_COMMON_STEADY_EVENT_H_
#define OCTOGATE_COMMON_STEADY_EVENT_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "absl/time/time.h"
#include "common/clock.h"

namespace octogate {

// For loops of one thread that do something now and then and are woken early. Thread-safe.
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

// Something that happens once. Thread-safe.
class SteadyNotification {
 public:
  SteadyNotification() = default;
  // Waits for a Notify that is under way: whoever has learned of it may end this at once.
  ~SteadyNotification() { const std::lock_guard<std::mutex> lock(mutex_); }
  SteadyNotification(const SteadyNotification&) = delete;
  SteadyNotification& operator=(const SteadyNotification&) = delete;

  // What happened before is seen by whoever learns of it. Again changes nothing.
  void Notify() {
    const std::lock_guard<std::mutex> lock(mutex_);
    notified_.store(true, std::memory_order_release);
    changed_.notify_all();
  }

  bool HasBeenNotified() const { return notified_.load(std::memory_order_acquire); }

  // Whether it has happened, waiting until `deadline`, a time of SteadyNow(), at most.
  bool WaitUntil(absl::Time deadline) const {
    if (HasBeenNotified()) return true;
    std::unique_lock<std::mutex> lock(mutex_);
    while (!HasBeenNotified()) {
      const absl::Duration left = deadline - SteadyNow();
      if (left <= absl::ZeroDuration()) return false;
      changed_.wait_for(lock, absl::ToChronoNanoseconds(std::min(left, absl::Hours(1))));
    }
    return true;
  }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::atomic<bool> notified_ = false;
};

}  // namespace octogate

#endif  // OCTOGATE_COMMON_STEADY_EVENT_H_
