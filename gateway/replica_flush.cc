// How ReplicaSet has replicas forget pages.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "gateway/replica_set.h"
#include "gateway/replica_set_internal.h"

namespace octogate::gateway {
namespace {

// Of the time that there is, what replicas may take: the rest is for what they say.
constexpr double kTimeOfReplicas = 0.9;

void SetStatus(const absl::Status& status, v1::ReplicaFlush* flush) {
  flush->set_code(static_cast<int32_t>(status.code()));
  flush->set_error(std::string(status.message()));
}

}  // namespace

std::vector<v1::ReplicaFlush> ReplicaSet::FlushCache(const v1::WorkerFlushCacheRequest& request,
                                                     absl::Time deadline) {
  // Outlives this call where a replica is late.
  struct Results {
    absl::Mutex mutex;
    size_t waiting ABSL_GUARDED_BY(mutex) = 0;
    std::vector<v1::ReplicaFlush> flushes ABSL_GUARDED_BY(mutex);
  };
  auto results = std::make_shared<Results>();
  {
    absl::MutexLock lock(&results->mutex);
    results->waiting = replicas_.size();
    results->flushes.resize(replicas_.size());
    for (const auto& replica : replicas_) {
      v1::ReplicaFlush& flush = results->flushes[replica->index];
      flush.set_replica(replica->client->address());
      SetStatus(absl::DeadlineExceededError("it has not answered in time"), &flush);
    }
  }
  const absl::Time now = absl::Now();
  for (const auto& replica : replicas_) {
    replica->client->FlushCache(
        request, now + kTimeOfReplicas * (deadline - now),
        [results, index = replica->index](absl::StatusOr<v1::WorkerFlushCacheResponse> response) {
          absl::MutexLock lock(&results->mutex);
          v1::ReplicaFlush& flush = results->flushes[index];
          SetStatus(response.status(), &flush);
          if (response.ok()) {
            // A peer's numbers.
            flush.set_pages(std::max<int64_t>(response->pages(), 0));
            flush.set_pages_in_use(std::max<int64_t>(response->pages_in_use(), 0));
            flush.set_shared(response->shared());
          }
          --results->waiting;
        });
  }
  std::vector<v1::ReplicaFlush> flushes;
  {
    absl::MutexLock lock(&results->mutex);
    const auto all_said = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(results->mutex) {
      return results->waiting == 0;
    };
    results->mutex.AwaitWithDeadline(absl::Condition(&all_said), deadline);
    flushes = results->flushes;
  }
  // What they hold is not what they have told.
  absl::MutexLock lock(&mutex_);
  for (const auto& replica : replicas_) replica->ask_at = absl::InfinitePast();
  return flushes;
}

}  // namespace octogate::gateway
