// Gives a client an answer that was kept.
#ifndef OCTOGATE_GATEWAY_CACHE_ANSWER_REPLAY_H_
#define OCTOGATE_GATEWAY_CACHE_ANSWER_REPLAY_H_

#include "absl/time/time.h"
#include "gateway/cache/answer_cache.h"
#include "gateway/graph_state.h"
#include "gateway/query.h"
#include "octogate/v1/gateway.pb.h"

namespace octogate::gateway {

// Sends what the query's level of events has of a query that enters no node: `started`, the text at
// once, and `finished`, which says whose answer it was and costs nothing. Traced and counted as any
// query. `answer` was kept for the request's kind of events (AnswerKeyOf).
void ReplayAnswer(const QueryEnvironment& environment, const GraphState& graph,
                  const v1::GenerateRequest& request, const KeptAnswer& answer, double similarity,
                  absl::Time started, QuerySink* sink);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_ANSWER_REPLAY_H_
