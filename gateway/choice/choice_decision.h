// What a choice node decides about one query.
#ifndef OCTOGATE_GATEWAY_CHOICE_CHOICE_DECISION_H_
#define OCTOGATE_GATEWAY_CHOICE_CHOICE_DECISION_H_

#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "gateway/drain_list.h"
#include "gateway/graph_state.h"
#include "gateway/query_budget.h"
#include "octogate/v1/gateway.pb.h"
#include "router/choice_policy.h"

namespace octogate::gateway {

struct ChoiceDecision {
  // RESOURCE_EXHAUSTED where no member fits into the budgets, UNAVAILABLE where all are drained.
  absl::Status status;
  router::ChoiceGoal goal;
  double sure = 1;
  std::vector<router::MemberEstimate> members;
  // The member that is asked, the first one of two.
  int member = -1;
  v1::Decision event;
};

// Decides by what the choice has learned, the prices of its members, their usual lengths and their
// times: measured by this gateway (kMeasuredCalls answers or more), else those of the outcomes,
// else as stated. The request's quality, or else its tenant's, counts in place of the node's.
// Members that are drained or that the budget has no room for, at their worst, are not chosen.
//
// `node` is a choice of the graph; members are judged by `query`, and would be given `input`. Takes
// microseconds; does not block.
ChoiceDecision DecideChoice(const GraphState& graph, const NodeRuntime& node,
                            std::string_view query, std::string_view input,
                            const v1::GenerateRequest& request, const QueryBudget& budget,
                            const DrainList& drained);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CHOICE_CHOICE_DECISION_H_
