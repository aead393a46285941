// A few threads for what queries compute or wait for apart from the network's threads, shared by
// tenants.
//
//   - Tenants whose work waits take turns; of each, what came first is first.
//   - Of one tenant no more waits than there are places left for others, so that one alone can fill
//     half of the places and never all of them (dynamic queue length thresholds: Choudhury and
//     Hahne 1998, with a factor of one).
//
// A refusal is RESOURCE_EXHAUSTED with a hint when to try again.
//
// Thread safety: Submit may be called from any thread, from `work`, too. The destructor runs what
// waits and joins.
#ifndef OCTOGATE_GATEWAY_SHARED_THREADS_H_
#define OCTOGATE_GATEWAY_SHARED_THREADS_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace octogate::gateway {

class SharedThreads {
 public:
  // `many`: what refusals call the work, e.g. "links".
  SharedThreads(int threads, size_t max_waiting, std::string many);
  ~SharedThreads();
  SharedThreads(const SharedThreads&) = delete;
  SharedThreads& operator=(const SharedThreads&) = delete;

  // OK: `work` is run once, on one of the threads.
  absl::Status Submit(const std::string& tenant, std::function<void()> work);

 private:
  void Run();
  // When a place is likely to be free again, with `ahead` before it.
  absl::Duration ExpectedWait(size_t ahead) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t max_waiting_;
  const std::string many_;
  absl::Mutex mutex_;
  // Of tenants with any, whose names are in `turns_`.
  absl::flat_hash_map<std::string, std::deque<std::function<void()>>> work_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::string> turns_ ABSL_GUARDED_BY(mutex_);
  size_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration mean_run_ ABSL_GUARDED_BY(mutex_) = absl::ZeroDuration();  // moving average
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SHARED_THREADS_H_
