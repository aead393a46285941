// An answer that nodes of the graph have judged, as votes and verifiers give it.
#ifndef OCTOGATE_GATEWAY_JUDGING_JUDGED_ANSWER_H_
#define OCTOGATE_GATEWAY_JUDGING_JUDGED_ANSWER_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gateway/catalog/link_messages.h"
#include "gateway/drain_list.h"
#include "gateway/graph_state.h"
#include "octogate/v1/gateway.pb.h"

namespace octogate::gateway {

// Of every text from a model in an event.
inline constexpr size_t kMaxEventBytes = 256;

struct JudgedAnswer {
  absl::Status status;
  std::string text;
  double confidence = 0;                            // In [0, 1].
  v1::Usage usage;                                  // Of all calls, also of those that failed.
  std::optional<v1::SpeculationUsage> speculation;  // Of all calls.
  v1::FinishReason finish_reason = v1::FINISH_REASON_STOP;
  v1::Judged event;  // How it came about; without the node.
};

using JudgedCallback = std::function<void(JudgedAnswer)>;

// What a judging node runs with. Everything is kept by the call.
struct JudgingContext {
  std::shared_ptr<const GraphState> graph;
  std::shared_ptr<const v1::GenerateRequest> request;
  std::string query;  // The user's.
  std::string input;  // Of the node.
  absl::Time deadline;
  const DrainList* drained = nullptr;  // Outlives the call.
  LinkedNames links;                   // Of the query so far.
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_JUDGING_JUDGED_ANSWER_H_
