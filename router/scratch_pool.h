#ifndef OCTOGATE_ROUTER_SCRATCH_POOL_H_
#define OCTOGATE_ROUTER_SCRATCH_POOL_H_

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace octogate::router {

// Working memory that is used again by the next call. As many as are needed at once are made; a few
// are kept. Thread-safe.
template <typename Scratch>
class ScratchPool {
 public:
  std::unique_ptr<Scratch> Take() {
    {
      absl::MutexLock lock(&mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Scratch> scratch = std::move(idle_.back());
        idle_.pop_back();
        return scratch;
      }
    }
    return std::make_unique<Scratch>();
  }

  void Return(std::unique_ptr<Scratch> scratch) {
    absl::MutexLock lock(&mutex_);
    if (idle_.size() < kMaxIdle) idle_.push_back(std::move(scratch));
  }

 private:
  static constexpr size_t kMaxIdle = 16;

  absl::Mutex mutex_;
  std::vector<std::unique_ptr<Scratch>> idle_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_SCRATCH_POOL_H_
