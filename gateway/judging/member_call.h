// Runs one node that generates to its end, for a node that judges its answer.
#ifndef OCTOGATE_GATEWAY_JUDGING_MEMBER_CALL_H_
#define OCTOGATE_GATEWAY_JUDGING_MEMBER_CALL_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gateway/graph_state.h"
#include "gateway/judging/answer_measures.h"
#include "gateway/model_client.h"
#include "octogate/v1/gateway.pb.h"
#include "octogate/v1/worker.pb.h"

namespace octogate::gateway {

// Of the answer of one member.
inline constexpr size_t kMaxMemberAnswerBytes = size_t{1} << 20;

struct MemberAnswer {
  absl::Status status;
  std::string text;
  AnswerMeasures measures;
  // Log-probability of the first token and its text, where the worker said them.
  double first_logprob = 0;
  v1::Usage usage;  // Of a failed one the tokens that had come.
  std::optional<v1::SpeculationUsage> speculation;
  v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
  absl::Duration duration;
};

// What events say of the call: node, error, beginning of the answer, confidence, usage and time.
v1::Ballot BallotOf(const NodeRuntime& node, const MemberAnswer& answer);

// `node` is a model or replay node. A longer answer than kMaxMemberAnswerBytes ends the call with
// RESOURCE_EXHAUSTED. `on_done` comes once, possibly before the function returns, on any thread,
// and keeps alive what `node` belongs to. The node's counters count the call.
std::shared_ptr<ModelCall> StartMemberCall(const NodeRuntime& node,
                                           std::shared_ptr<const v1::WorkerGenerateRequest> request,
                                           absl::Time deadline,
                                           std::function<void(MemberAnswer)> on_done);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_JUDGING_MEMBER_CALL_H_
