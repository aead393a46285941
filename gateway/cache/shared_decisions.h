// The decisions of gateways that share one Redis: what one of them has decided, the others find.
//
// Of graphs that say so (`cache.decisions.shared`), as to ask costs a query more than a lexical
// head takes: it pays where a router asks a model. Found is a decision for the same key
// (DecisionCache::KeyOf), tenant included, and by the same graph (flushable_values.h). Flushes hold
// at all gateways at once, but for what one has kept itself by then, which it forgets when it hears
// of the flush (GraphManager::FlushDecisions).
//
// With the server late, gone, full, emptied or lying, the router decides as if nothing were shared.
// What is read is hostile: it must be what this graph's router could have decided.
#ifndef OCTOGATE_GATEWAY_CACHE_SHARED_DECISIONS_H_
#define OCTOGATE_GATEWAY_CACHE_SHARED_DECISIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/cache/cache_counts.h"
#include "gateway/cache/flushable_values.h"
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
  SharedDecisions(SharedValues* values, const v1::Graph* graph, int64_t version,
                  std::string_view manifest);

  // A decision that the router takes for the tenant's query: `key` is DecisionCache's.
  struct Query {
    std::string tenant;
    std::string router;
    std::string key;
  };
  using Found = FlushableValues::Found<v1::Decision>;  // as DecisionCache::AsKept has it
  // As of FlushableValues.
  void Get(const Query& query, std::function<void(Found found)> done);

  // Written behind, if it is repeatable; without marks not. `decision` is as what is found.
  void Put(const Query& query, const std::string& marks, const v1::Decision& decision);

  // As of FlushableValues.
  absl::Status Flush(const std::string& tenant, absl::Time deadline) {
    return values_.Flush(tenant, deadline);
  }
  CacheCounts Counts() const { return values_.Counts(); }

 private:
  // DATA_LOSS where it is no decision.
  absl::StatusOr<v1::Decision> Parse(const std::string& router, std::string_view content) const;
  // Whether this graph's router could have decided so.
  bool IsSound(const std::string& router, const v1::Decision& decision) const;

  FlushableValues values_;
  const v1::Graph& graph_;
  const int64_t version_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_SHARED_DECISIONS_H_
