// What a query keeps of the node that it is at: shared by query.cc, which walks the graph, and
// query_nodes.cc, which runs its nodes.
#ifndef OCTOGATE_GATEWAY_QUERY_STEP_H_
#define OCTOGATE_GATEWAY_QUERY_STEP_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "gateway/graph_state.h"
#include "gateway/judging/answer_measures.h"
#include "gateway/model_client.h"
#include "gateway/query.h"
#include "octogate/v1/gateway.pb.h"

namespace octogate::gateway {

// One node of the query's course.
struct Query::Step {
  const NodeRuntime* node = nullptr;
  std::string input;
  absl::Time entered = absl::Now();
  absl::Time first_token = absl::InfinitePast();
  std::string output;  // the whole text, where somebody will need it
  int number = 0;
  bool intermediate = false;  // another node will answer
  bool hold = false;          // the client's tokens wait for the outcome
  bool keep_output = false;
  std::vector<v1::GenerateResponse> held;
  size_t held_bytes = 0;
  absl::Status failure;  // found by the gateway, while the model still runs
  AnswerMeasures measures;
  v1::FinishReason finish_reason = v1::FINISH_REASON_STOP;
  v1::Usage usage;
  std::optional<v1::SpeculationUsage> speculation;
  bool announced = false;
  std::shared_ptr<ModelCall> call;             // of a model, vote or verifier
  std::shared_ptr<Cancellation> cancellation;  // of a router, retriever or SQL node
  std::shared_ptr<std::atomic<bool>> begun;    // of what waits for a thread
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_QUERY_STEP_H_
