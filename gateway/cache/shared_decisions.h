// The decisions of gateways that share one Redis: what one of them has decided, the others find.
//
// Of graphs that say so (`cache.decisions.shared`), as to ask costs a query more than a lexical
// head takes: it pays where a router asks a model. Found is a decision for the same key
// (DecisionCache::KeyOf), and by the same graph: its version and the digest of its manifest are
// part of the name that it stands under, as is the tenant. Flushes hold at all of them at once
// (shared_flushes.h), but for what a gateway has kept itself by then, which it forgets when it
// hears of the flush (GraphManager::FlushDecisions).
//
// With the server late, gone, full, emptied or lying, the router decides as if nothing were shared.
// What is read is hostile: it is bounded, compared byte by byte with what was asked for, and must
// be what this graph's router could have decided.
#ifndef OCTOGATE_GATEWAY_CACHE_SHARED_DECISIONS_H_
#define OCTOGATE_GATEWAY_CACHE_SHARED_DECISIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "gateway/cache/cache_counts.h"
#include "gateway/cache/shared_flushes.h"
#include "gateway/shared_values.h"
#include "octogate/v1/gateway.pb.h"
#include "octogate/v1/graph.pb.h"

namespace octogate::gateway {

// Of one version of a graph.
//
// Thread safety: all methods may be called from any thread. None but Flush blocks.
class SharedDecisions {
 public:
  // Of one decision with its key, as it is written; longer ones are not shared.
  static constexpr size_t kMaxBytes = size_t{64} << 10;
  static constexpr absl::Duration kKeptFor = absl::Hours(1);

  // `values` and `graph` outlive this object.
  SharedDecisions(SharedValues* values, Clock clock, const v1::Graph* graph, int64_t version,
                  std::string_view manifest);

  // A decision that the router takes for the tenant's query: `key` is DecisionCache's.
  struct Query {
    std::string tenant;
    std::string router;
    std::string key;
  };
  struct Found {
    std::string marks;  // that what is decided instead is put with; empty: they cannot be known now
    std::optional<v1::Decision> decision;
  };
  // `done` is called once, possibly before this returns, within the time of a read of the shared
  // values; it must not block.
  void Get(Query query, std::function<void(Found found)> done);

  // Written behind, if it is repeatable; without marks not.
  void Put(const Query& query, const std::string& marks, const v1::Decision& decision);

  // As of SharedFlushes.
  absl::Status Flush(const std::string& tenant, absl::Time deadline) {
    return flushes_.Flush(tenant, deadline);
  }

  // Of its queries. Failures: reads without an answer of the server, or of what is none.
  CacheCounts Counts() const;

 private:
  std::string NameOf(const Query& query) const;
  Found OnValues(const Query& query, absl::Time asked, const SharedValues::Values& values);
  // NOT_FOUND where it is not of these marks; DATA_LOSS for anything else that is no decision.
  absl::StatusOr<v1::Decision> Read(const Query& query, const std::string& marks,
                                    std::string_view value) const;
  // Whether this graph's router could have decided so.
  bool IsSound(const Query& query, const v1::Decision& decision) const;

  SharedValues& values_;
  const Clock clock_;
  const v1::Graph& graph_;
  const int64_t version_;
  const std::string identity_;  // of the graph and the format
  SharedFlushes flushes_;
  mutable absl::Mutex mutex_;
  CacheCounts counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_SHARED_DECISIONS_H_
