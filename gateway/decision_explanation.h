// Why a query was routed as it was.
#ifndef OCTOGATE_GATEWAY_DECISION_EXPLANATION_H_
#define OCTOGATE_GATEWAY_DECISION_EXPLANATION_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "gateway/graph_manager.h"
#include "gateway/trace_store.h"
#include "octogate/v1/admin.pb.h"

namespace octogate::gateway {

// Decides again on the trace's version of the graph, which may have to be built for it, or on the
// applied one where that is gone; `response.warnings` says so. `request` is valid. NOT_FOUND
// without such a trace, router or version, FAILED_PRECONDITION where no router decided first.
// Blocks.
absl::StatusOr<v1::ExplainDecisionResponse> ExplainDecision(
    const v1::ExplainDecisionRequest& request, absl::Time deadline,
    std::shared_ptr<Cancellation> cancellation, const TraceStore& traces, GraphManager* graphs);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_DECISION_EXPLANATION_H_
