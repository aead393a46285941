// What another version of the graph would have made of recorded queries.
#ifndef OCTOGATE_GATEWAY_TRAFFIC_REPLAY_H_
#define OCTOGATE_GATEWAY_TRAFFIC_REPLAY_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "gateway/feedback_store.h"
#include "gateway/graph_manager.h"
#include "gateway/trace_store.h"
#include "octogate/v1/admin.pb.h"

namespace octogate::gateway {

// Builds the other graph's routers beside the applied ones and lets them decide what a router
// decided first in each trace, or the queries of the request. The same queries give the same
// response, but for its time: neither drained nodes nor sessions matter. A trace's side is what the
// scores alone chose then. `request` is valid. FAILED_PRECONDITION before the first graph; errors
// of GraphManager::PrepareRouting, and of a decision that fails; CANCELLED. Blocks.
absl::StatusOr<v1::ReplayTrafficResponse> ReplayTraffic(const v1::ReplayTrafficRequest& request,
                                                        absl::Time deadline,
                                                        std::shared_ptr<Cancellation> cancellation,
                                                        const TraceStore& traces,
                                                        FeedbackStore* feedback,
                                                        GraphManager* graphs);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_TRAFFIC_REPLAY_H_
