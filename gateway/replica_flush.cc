// How ReplicaSet has replicas forget pages.
#include <algorithm>
#include <utility>
#include <vector>

#include "common/strings.h"
#include "gateway/peer_error.h"
#include "gateway/replica_set.h"
#include "gateway/replica_set_internal.h"

namespace octogate::gateway {

std::vector<v1::ReplicaFlush> ReplicaSet::FlushCache(const v1::WorkerFlushCacheRequest& request,
                                                     absl::Time deadline) {
  const auto responses = AskReplicas<v1::WorkerFlushCacheResponse>(
      replicas_.size(), deadline, [&](size_t index, absl::Time time, auto on_done) {
        replicas_[index]->client->FlushCache(request, time, std::move(on_done));
      });
  std::vector<v1::ReplicaFlush> flushes;
  for (size_t i = 0; i < responses.size(); ++i) {
    const absl::StatusOr<v1::WorkerFlushCacheResponse>& response = responses[i];
    v1::ReplicaFlush& flush = flushes.emplace_back();
    flush.set_replica(replicas_[i]->client->address());
    flush.set_code(static_cast<int32_t>(response.status().code()));
    flush.set_error(PeerError(ToStd(response.status().message())));
    if (!response.ok()) continue;
    // A peer's numbers.
    flush.set_pages(std::max<int64_t>(response->pages(), 0));
    flush.set_pages_in_use(std::max<int64_t>(response->pages_in_use(), 0));
    flush.set_shared(response->shared());
  }
  // What they hold is not what they have told.
  absl::MutexLock lock(&mutex_);
  for (const auto& replica : replicas_) replica->ask_at = absl::InfinitePast();
  return flushes;
}

}  // namespace octogate::gateway
