#ifndef OCTOGATE_COMMON_CANCELLATION_H_
#define OCTOGATE_COMMON_CANCELLATION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace octogate {

// Tells everyone who works for one query that nobody waits for it any more. Thread-safe. Share it
// as std::shared_ptr<Cancellation>; a null pointer means "is never cancelled".
class Cancellation : public std::enable_shared_from_this<Cancellation> {
 public:
  // Takes its callback back when it ends, waiting for one that is running (unless it ends inside
  // that callback).
  class Registration {
   public:
    Registration() = default;
    Registration(Registration&& other) noexcept { *this = std::move(other); }
    Registration& operator=(Registration&& other) noexcept;
    ~Registration() { Reset(); }
    void Reset();

   private:
    friend class Cancellation;
    std::shared_ptr<Cancellation> owner_;
    uint64_t id_ = 0;
  };

  // Calls every callback once, in the order of registration, on this thread, without a lock held.
  void Cancel();

  bool IsCancelled() const;

  // Has `callback` called on Cancel, or now if that has been. It must not block.
  [[nodiscard]] Registration OnCancel(std::function<void()> callback);

 private:
  struct Entry {
    uint64_t id;
    std::function<void()> callback;
  };

  void Unregister(uint64_t id);

  mutable absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  // The entry whose callback runs now, and the thread that runs it.
  uint64_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t running_thread_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate

#endif  // OCTOGATE_COMMON_CANCELLATION_H_
