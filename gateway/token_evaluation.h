// How well a router finds the nodes of labelled queries.
#ifndef OCTOGATE_GATEWAY_TOKEN_EVALUATION_H_
#define OCTOGATE_GATEWAY_TOKEN_EVALUATION_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "octogate/v1/admin.pb.h"
#include "router/router.h"

namespace octogate::gateway {

// Routes the queries through `snapshot`, one after the other. Whether nodes are drained makes no
// difference. `request` is valid; `cancellation` may be null. NOT_FOUND if there is no such router,
// CANCELLED, DEADLINE_EXCEEDED. Blocks.
absl::StatusOr<v1::EvaluateTokensResponse> EvaluateTokens(
    const router::RoutingSnapshot& snapshot, const v1::EvaluateTokensRequest& request,
    absl::Time deadline, std::shared_ptr<Cancellation> cancellation);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_TOKEN_EVALUATION_H_
