// How far a fetch of pages from a Redis server is.
#ifndef OCTOGATE_WORKERS_CACHE_PAGE_FETCH_STATE_H_
#define OCTOGATE_WORKERS_CACHE_PAGE_FETCH_STATE_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "workers/cache/page_codec.h"
#include "workers/engine/page_store.h"

namespace octogate::workers {

// A fetch, shared by the engine's thread and the threads that read. Its mutex is taken after the
// store's, and before that of on_change.
struct FetchState {
  std::vector<PageCodec::Page> pages;
  int first = 0;  // the index of the first of them
  // Of the memory for each page that has not come; each is the affair of who reads that page.
  std::vector<std::shared_ptr<void>> leases;
  std::function<void()> on_change;
  absl::Time begun;
  double bytes_before = 0;  // under way when it began
  PageOrder order = PageOrder::kForward;
  // Of the commands for it that are under way at a time, and of pages in one.
  size_t window = 1;
  size_t chunk = 1;

  absl::Mutex mutex;
  // Pages [next, end) have not been asked for. Those from `end` on are not there, or, from the
  // back, have been asked for.
  size_t next ABSL_GUARDED_BY(mutex) = 0;
  size_t end ABSL_GUARDED_BY(mutex) = 0;
  size_t pending ABSL_GUARDED_BY(mutex) = 0;  // commands under way
  size_t came ABSL_GUARDED_BY(mutex) = 0;     // pages
  absl::Time last_came ABSL_GUARDED_BY(mutex);
  bool counting ABSL_GUARDED_BY(mutex) = false;  // it is being found out which are there
  bool counted ABSL_GUARDED_BY(mutex) = true;    // only from the back need that be known first
  bool given_up ABSL_GUARDED_BY(mutex) = false;
  bool measured ABSL_GUARDED_BY(mutex) = false;  // the store has learned from it
  std::vector<SharedPage> arrived ABSL_GUARDED_BY(mutex);

  bool Done() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return given_up || (pending == 0 && next >= end);
  }
  bool Asked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) { return given_up || next >= end; }
  bool Waits() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return !Asked() && !counting && pending < window;
  }
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_CACHE_PAGE_FETCH_STATE_H_
