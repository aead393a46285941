// What becomes of feedback: checked against the trace that it is on, kept, and made into examples
// once an operator wants it.
#ifndef OCTOGATE_GATEWAY_FEEDBACK_H_
#define OCTOGATE_GATEWAY_FEEDBACK_H_

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/feedback_store.h"
#include "gateway/graph_manager.h"
#include "gateway/trace_store.h"
#include "octogate/v1/admin.pb.h"
#include "octogate/v1/gateway.pb.h"

namespace octogate::gateway {

// Takes feedback on a query of the same tenant that this gateway still has the trace of. `request`
// is valid. NOT_FOUND without such a trace, INVALID_ARGUMENT for a better node that the graph does
// not have, else errors of FeedbackStore::Add. Blocks.
absl::StatusOr<v1::FeedbackResponse> TakeFeedback(const v1::FeedbackRequest& request,
                                                  absl::Time deadline, const TraceStore& traces,
                                                  const GraphManager& graphs, FeedbackStore* store);

// Blocks. `request` is valid, here and below.
absl::StatusOr<v1::ListFeedbackResponse> ListFeedback(const v1::ListFeedbackRequest& request,
                                                      absl::Time deadline, FeedbackStore* store);

// Makes the queries of feedback that names a better node learned examples of that node, in one new
// version of the graph, and removes that feedback. Where the graph cannot take them nothing is
// changed; what a node that is gone should have learned is left out, with a warning. Errors are
// those of GraphManager::Edit. Blocks.
absl::StatusOr<v1::PromoteFeedbackResponse> PromoteFeedback(
    const v1::PromoteFeedbackRequest& request, absl::Time deadline, FeedbackStore* store,
    GraphManager* graphs);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_FEEDBACK_H_
