// Which answers may be given again, and how they are kept.
//
// Decided conservatively. A query's answer is kept only if
//   - the query belongs to no session and does not bypass caches,
//   - all that it passed were routers, model nodes and recordings: what a tool, a retriever, a SQL
//     node or a choice says may be another thing the next time (a clock, rows, a refreshed catalog,
//     measured speeds), and votes and verifiers depend on who is first,
//   - every model node was greedy or had a seed, had no grammar of SQL names, and ended by itself,
//   - no node and no head failed on the way,
//   - it ended with OK, and is not too long.
//
// Not seen: what a chat template adds by itself. The answers of a model whose template writes
// today's date (strftime_now) may carry that of the day they were given on: have them expire
// sooner (expiresAfterMs), or keep none.
#ifndef OCTOGATE_GATEWAY_CACHE_ANSWER_RECORDER_H_
#define OCTOGATE_GATEWAY_CACHE_ANSWER_RECORDER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gateway/cache/answer_cache.h"
#include "gateway/cache/flights.h"
#include "gateway/drain_list.h"
#include "gateway/graph_state.h"
#include "octogate/v1/gateway.pb.h"

namespace octogate::gateway {

// The key of a valid request that names its tenant; nothing where its answer is neither looked for
// nor kept. Streamed tokens and whole texts are kept apart: whole texts have no token ids.
std::optional<AnswerKey> AnswerKeyOf(const GraphState& graph, const v1::GenerateRequest& request,
                                     const DrainList::Names& drained);

// Takes note of one query's course, and keeps its answer at its end, for the gateways that share
// answers too, unless the cache has been flushed since. Destroyed before: the query has failed.
//
// Not thread-safe.
class AnswerRecorder {
 public:
  // `drained` as the key was made with. `vector` and `epoch` as of AnswerCache::Put. `lead` may be
  // none: then nobody waits for the answer.
  AnswerRecorder(std::shared_ptr<const GraphState> graph, AnswerKey key,
                 std::shared_ptr<const DrainList::Names> drained, std::vector<float> vector,
                 uint64_t epoch, AnswerFlights::Lead lead)
      : graph_(std::move(graph)),
        key_(std::move(key)),
        drained_(std::move(drained)),
        vector_(std::move(vector)),
        epoch_(epoch),
        lead_(std::move(lead)) {}

  const GraphState& graph() const { return *graph_; }

  // A router is asked, without the nodes that are drained by now.
  void OnRoute(const DrainList::Names& drained);
  // The query enters a node; has a decision; leaves a node.
  void OnNode(const v1::Node& node, const v1::GenerateRequest& request);
  void OnDecision(const v1::Decision& decision);
  void OnNodeLeft(const absl::Status& status, v1::FinishReason finish_reason);
  // The client gets an event.
  void OnEvent(const v1::GenerateResponse& event);
  // Who waits runs by itself from now on; the answer may still be kept.
  void Release() { lead_.Release(); }
  // The query has ended. `finished`: with an OK status, its last event.
  void OnDone(const absl::Status& status, const v1::GenerateResponse& finished);

 private:
  void GiveUp();

  const std::shared_ptr<const GraphState> graph_;
  const AnswerKey key_;
  const std::shared_ptr<const DrainList::Names> drained_;
  std::vector<float> vector_;
  const uint64_t epoch_;
  AnswerFlights::Lead lead_;
  bool keeps_ = true;
  std::string first_node_;
  v1::Tokens tokens_;
  size_t bytes_ = 0;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_ANSWER_RECORDER_H_
