// What operators ask of the caches.
#ifndef OCTOGATE_GATEWAY_CACHE_CACHE_ADMIN_H_
#define OCTOGATE_GATEWAY_CACHE_CACHE_ADMIN_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/drain_list.h"
#include "gateway/graph_manager.h"
#include "octogate/v1/admin.pb.h"

namespace octogate::gateway {

// Of the applied graph: decisions and answers since it was applied, and what models keep as their
// replicas last told. Nothing before the first graph; with a model FAILED_PRECONDITION, and
// NOT_FOUND where the graph has no such model.
absl::StatusOr<v1::GetCacheStatsResponse> GetCacheStats(const v1::GetCacheStatsRequest& request,
                                                        const GraphManager& graphs);

// Answers and decisions that gateways share are out of reach of all of them when it has returned.
// What the others keep themselves they give until they have looked for marks again, answers, or
// have heard of it, decisions; this one's own are gone in any case. Blocks for the store, until
// `deadline` at most. UNAVAILABLE or DEADLINE_EXCEEDED where the store has not taken
// it: the other gateways may give what they gave before, until it is repeated. FAILED_PRECONDITION
// before the first graph.
//
// With a model, its replicas forget pages instead (Engine::FlushPages), and the response says what
// each of them has said: blocks for them, until nearly `deadline` at most. NOT_FOUND where the
// graph has no such model.
absl::StatusOr<v1::FlushCacheResponse> FlushCache(const v1::FlushCacheRequest& request,
                                                  absl::Time deadline, GraphManager& graphs);

// What would be found now. The encoder and the routers may be asked: blocks until `deadline` at
// most. Counts as no use. FAILED_PRECONDITION before the first graph.
absl::StatusOr<v1::ExplainCacheResponse> ExplainCache(const v1::ExplainCacheRequest& request,
                                                      absl::Time deadline,
                                                      const GraphManager& graphs,
                                                      const DrainList& drained);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_CACHE_ADMIN_H_
