// The nodes that take no new queries, by name. Kept apart from the graph: a new version does not
// bring a drained node back. The store has them too: for a restart, and for the other gateways that
// share it, whose changes are looked for every now and then (GraphManager::SyncDrained); what the
// store loses of them is put back.
#ifndef OCTOGATE_GATEWAY_DRAIN_LIST_H_
#define OCTOGATE_GATEWAY_DRAIN_LIST_H_

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace octogate::gateway {

// Thread safety: all methods may be called from any thread.
class DrainList {
 public:
  using Names = std::vector<std::string>;  // sorted

  std::shared_ptr<const Names> names() const {
    absl::MutexLock lock(&mutex_);
    return names_;
  }

  bool Contains(std::string_view name) const {
    const std::shared_ptr<const Names> names = this->names();
    return std::binary_search(names->begin(), names->end(), name);
  }

  // `names` are sorted.
  void SetAll(Names names) {
    absl::MutexLock lock(&mutex_);
    names_ = std::make_shared<const Names>(std::move(names));
  }

 private:
  mutable absl::Mutex mutex_;
  std::shared_ptr<const Names> names_ ABSL_GUARDED_BY(mutex_) = std::make_shared<Names>();
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_DRAIN_LIST_H_
