// The decisions of one version of the graph, by everything that they depend on.
//
// A hit is what a miss would have been. Heads read every character of the query and nothing else of
// the conversation, so the query counts as it is, and not normalised: another spelling may be
// another decision, and is another argument in any case. Beside it the key has the tenant (nothing
// is shared between tenants, not even that somebody has asked), the router, the nodes that are
// drained and, where the router looks at it, the node that the session is at. Each version of the
// graph has a cache of its own. What failed on the way to a decision may not fail again: such a
// decision is not kept (router::IsRepeatable).
//
// Not covered: a worker that is restarted with other weights under an unchanged graph. Flush then.
//
// Bounds: max_entries, and kMaxBytes of keys and decisions. The least recently used go first, of
// the shard in which room is needed: entries are spread over up to kShards shards by their keys'
// hash, each with its part of both bounds.
#ifndef OCTOGATE_GATEWAY_CACHE_DECISION_CACHE_H_
#define OCTOGATE_GATEWAY_CACHE_DECISION_CACHE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "gateway/cache/cache_counts.h"
#include "octogate/v1/gateway.pb.h"
#include "router/router.h"

namespace octogate::gateway {

// Thread safety: all methods may be called from any thread; a shard's lock is held for a look-up or
// a few list operations.
class DecisionCache {
 public:
  static constexpr size_t kShards = 16;
  static constexpr size_t kMaxBytes = size_t{64} << 20;
  // Of a key and its decision together; longer ones are not kept.
  static constexpr size_t kMaxEntryBytes = size_t{64} << 10;

  // `max_entries` 0: keeps nothing.
  explicit DecisionCache(size_t max_entries, size_t max_bytes = kMaxBytes);

  // The whole key, unambiguous: keys are compared byte by byte, so no query can be made that has
  // another one's decision. `reads_session`: of the router, whether `session_node` and `stay`
  // count.
  static std::string KeyOf(std::string_view tenant, std::string_view router, std::string_view query,
                           const router::RouteOptions& options, bool reads_session);

  bool enabled() const { return max_entries_ > 0; }

  // A decision as it is given again: marked as cached, without usage and durations.
  static v1::Decision AsKept(v1::Decision decision);

  // The decision AsKept; or nothing.
  std::optional<v1::Decision> Find(const std::string& key);

  // The same, counting as no use.
  std::optional<v1::Decision> Peek(const std::string& key) const;

  // Another one after each Flush.
  uint64_t epoch() const { return epoch_.load(); }

  // Keeps a repeatable decision, which is AsKept. `epoch` is that of before the router was asked:
  // what was under way at a Flush, of any tenant, is not kept.
  void Put(std::string_view tenant, std::string key, const v1::Decision& decision, uint64_t epoch);

  // Removes everything, or what is the tenant's where it is not empty.
  CacheCounts Flush(std::string_view tenant);

  // Entries and bytes of all or of one tenant; lookups and so on are those of all.
  CacheCounts Counts(std::string_view tenant) const;
  size_t max_entries() const { return max_entries_; }

 private:
  struct Entry {
    std::string key;
    std::string tenant;
    std::string decision;  // serialized: a quarter of the memory of a message
    size_t bytes() const { return sizeof(Entry) + 64 + key.size() + decision.size(); }
  };
  struct Shard {
    mutable absl::Mutex mutex;
    std::list<Entry> entries ABSL_GUARDED_BY(mutex);  // used last first
    absl::flat_hash_map<std::string_view, std::list<Entry>::iterator> by_key ABSL_GUARDED_BY(mutex);
    CacheCounts counts ABSL_GUARDED_BY(mutex);
  };

  Shard& ShardOf(std::string_view key) const;

  const size_t max_entries_;
  const size_t shards_;
  const size_t entries_per_shard_;
  const size_t bytes_per_shard_;
  const std::unique_ptr<Shard[]> shard_;
  std::atomic<uint64_t> epoch_{0};
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_DECISION_CACHE_H_
