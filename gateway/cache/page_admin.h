// What operators ask of the caches of models: pages of keys and values, and drafts.
#ifndef OCTOGATE_GATEWAY_CACHE_PAGE_ADMIN_H_
#define OCTOGATE_GATEWAY_CACHE_PAGE_ADMIN_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/graph_state.h"
#include "octogate/v1/admin.pb.h"

namespace octogate::gateway {

// NOT_FOUND where the graph has no such model.
absl::Status CheckModel(const GraphState& state, const std::string& model);

// Of a model that the graph has, as its replicas last told. None is counted by tenant.
void AddModelCaches(const GraphState& state, const std::string& model,
                    v1::GetCacheStatsResponse* out);

// See FlushCache (cache_admin.h) with a model.
absl::StatusOr<v1::FlushCacheResponse> FlushPages(const v1::FlushCacheRequest& request,
                                                  absl::Time deadline, const GraphState& state);

// Of a model node, what its replicas say that they have of the prompt that it would be given;
// nothing of other nodes. Waits for them until nearly `deadline`, 3 seconds at most.
void ExplainPages(const GraphState& state, const v1::GenerateRequest& request,
                  const std::string& node, const std::string& input, absl::Time deadline,
                  v1::ExplainCacheResponse* out);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_PAGE_ADMIN_H_
