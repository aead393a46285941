// Runs one query on one version of the graph: router decision, node, edge, node, ... and streams
// what happens as typed events.
#ifndef OCTOGATE_GATEWAY_QUERY_H_
#define OCTOGATE_GATEWAY_QUERY_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gateway/cache/answer_recorder.h"
#include "gateway/catalog/link_messages.h"
#include "gateway/catalog/linking.h"
#include "gateway/catalog/table_choice.h"
#include "gateway/drain_list.h"
#include "gateway/graph_state.h"
#include "gateway/judging/judged_answer.h"
#include "gateway/judging/member_call.h"
#include "gateway/metrics.h"
#include "gateway/model_client.h"
#include "gateway/query_budget.h"
#include "gateway/serializer.h"
#include "gateway/session_store.h"
#include "gateway/shared_threads.h"
#include "gateway/trace_store.h"
#include "octogate/v1/gateway.pb.h"
#include "router/plan.h"

namespace octogate::gateway {

// Where a query's events go. Calls come one after the other, on any thread; they must not block.
class QuerySink {
 public:
  virtual ~QuerySink() = default;

  // The event may be moved from. kPause: the consumer is behind; the query holds back until its
  // Resume, as far as its model can.
  virtual Flow OnEvent(v1::GenerateResponse& event) = 0;

  // The last call. With an OK status `finished` is the last event, and else null.
  virtual void OnDone(const absl::Status& status, v1::GenerateResponse* finished) = 0;
};

// What queries share. Everything outlives them.
struct QueryEnvironment {
  TraceStore* traces = nullptr;
  Metrics* metrics = nullptr;
  const DrainList* drained = nullptr;
  SharedThreads* tool_threads = nullptr;
  SharedThreads* link_threads = nullptr;
  SharedThreads* sql_threads = nullptr;
  SessionStore* sessions = nullptr;
};

// The last message of "user", which `request` has. A conversation that ends with a tool's result is
// routed by it.
template <typename Request>
const std::string& UserQueryOf(const Request& request) {
  int i = request.messages_size() - 1;
  while (request.messages(i).role() != "user") --i;
  return request.messages(i).content();
}
// Whether the conversation ends with a tool's result.
template <typename Request>
bool EndsWithToolResult(const Request& request) {
  return request.messages(request.messages_size() - 1).role() == "tool";
}

// Which of the user's tokens are streamed when follows from the graph:
// - A node with an open `success` edge does not write the answer: its text is the next node's
//   input, and no tokens are streamed. Where no such edge is taken in the end, because the budget
//   has no room for its node, the text is the answer and is sent as a whole.
// - A node with an open `lowConfidence` edge may not write it: its tokens are held back until its
//   confidence is known (kMaxHeldBytes at most; more is an error of the node).
// - Every other node's tokens are streamed at once. When it fails after that, no `error` edge is
//   taken: the query fails with what the client has.
//
// Thread safety: all methods may be called from any thread.
class Query : public std::enable_shared_from_this<Query> {
 public:
  static constexpr size_t kMaxHeldBytes = size_t{8} << 20;
  // Of the input of one node.
  static constexpr size_t kMaxInputBytes = size_t{1} << 20;
  // Refused edges that a query tells of; further ones are not taken either.
  static constexpr int kMaxRefusedEvents = 64;

  // `request` is valid (request_validation.h) and names its tenant (tenant.h). The query ends at
  // `deadline` or after the graph's time, whichever comes first. `answer`, which may be null, keeps
  // what comes of it; it is of the same graph and request.
  Query(const QueryEnvironment& environment, std::shared_ptr<const GraphState> graph,
        v1::GenerateRequest request, absl::Time deadline, QuerySink* sink,
        std::unique_ptr<AnswerRecorder> answer = nullptr);
  ~Query();

  // Calls the sink, possibly before it returns. The query keeps itself alive until OnDone.
  void Start();

  // The client has gone: the query ends soon with CANCELLED.
  void Cancel();

  // The deadline has passed: the query ends soon with DEADLINE_EXCEEDED. Models and tools keep to
  // the deadline by themselves, except where the client has held them back.
  void Expire();

  // Goes on after the sink has returned kPause.
  void Resume();

  absl::Time deadline() const { return deadline_; }

 private:
  struct Step;

  // All private methods run in serializer_.
  void Stop(const absl::Status& reason);
  // Enters the next node, or ends the query where there is none.
  void Advance(const absl::StatusOr<router::PlanStep>& next, std::string input);
  void RunRouter();
  void Route(router::RouteOptions options);
  void OnDecision(absl::StatusOr<v1::Decision> decision);
  void RunTool();
  void OnToolOutput(absl::StatusOr<std::string> output);
  // Calls `work` on one of the threads, and in serializer_ what it returns; neither once the query
  // has been stopped before. Both may use the query and its present step. RESOURCE_EXHAUSTED with a
  // hint when to try again, and neither is called, where too much waits.
  [[nodiscard]] absl::Status RunOn(SharedThreads* threads,
                                   std::function<std::function<void()>()> work);
  void RunRetriever();
  // Has the retriever's table node choose among the link's tables, and links those alone.
  void AskForTables(const std::shared_ptr<const QuestionLink>& question,
                    v1::LinkSchemaResponse link, const TablePrompt& prompt);
  void OnTables(const std::shared_ptr<const QuestionLink>& question, v1::LinkSchemaResponse link,
                int shown, const MemberAnswer& answer);
  void OnLinked(absl::StatusOr<v1::LinkSchemaResponse> link);
  void RunSql();
  // The present step's answer, which comes all at once.
  void AnswerWhole(std::string output);
  void RunModel();
  void OnMessage(v1::WorkerGenerateResponse& message);
  void OnModelDone(const absl::Status& status);
  void RunChoice();
  // A vote, a verifier or a choice of two calls, which run their members themselves.
  void RunJudging();
  JudgingContext JudgingContextOf() const;
  JudgedCallback JudgedCallbackOf();
  void OnJudged(JudgedAnswer answer);
  // Says how the present node has come to what it goes on with.
  void EmitJudged(v1::Judged judged);

  // The present step has ended: takes an edge, or ends the query.
  void LeaveNode(const absl::Status& status);
  // The present step's output was for a node that is not entered, as its edge is refused: it is the
  // answer, and comes all at once.
  void AnswerAfterAll();
  absl::Status NodeFailure(const absl::Status& status) const;
  router::NodeOutcome Outcome(const absl::Status& status) const;
  // Whether the budget has room for the edge's node; says so where it has not.
  bool MayTake(const v1::Edge& edge, const router::NodeOutcome& outcome);
  // Why the budget has no room for any of the nodes that a retriever's link is for; empty where it
  // has, and where the link is the answer.
  std::string WhyNotBeyond(const v1::Node& retriever) const;
  std::string EdgeInput(const v1::Edge& edge, const absl::Status& status) const;
  void Finish(const absl::Status& status);

  bool AllEvents() const { return level_ == v1::EVENT_LEVEL_ALL; }
  void EmitNodeEntered(const std::string& replica);
  void EmitNodeLeft(const absl::Status& status);
  void Record(const v1::GenerateResponse& event);
  void Send(v1::GenerateResponse& event);
  const std::string& UserQuery() const;
  // Whether the present step is given a tool's result as it came.
  bool IsToolResult() const;
  absl::Duration Elapsed() const;

  const QueryEnvironment environment_;
  const std::shared_ptr<const GraphState> graph_;
  const std::shared_ptr<const v1::GenerateRequest> shared_request_;
  const v1::GenerateRequest& request_;
  const absl::Time started_;
  const absl::Time deadline_;
  const v1::EventLevel level_;
  QuerySink* const sink_;
  const std::string trace_id_;
  Serializer serializer_;
  router::Plan plan_;
  QueryBudget budget_;

  std::shared_ptr<Query> self_;  // until done
  std::unique_ptr<TraceRecorder> recorder_;
  std::unique_ptr<AnswerRecorder> answer_;
  std::unique_ptr<Step> step_;                                 // the present one
  absl::flat_hash_map<std::string, router::NodeTexts> texts_;  // of nodes that edges name
  // What the last link of each retriever, by name, allows.
  LinkedNames links_;
  v1::Usage usage_;                                                 // of the nodes left
  v1::Usage routing_usage_;                                         // of these, that of decisions
  std::optional<v1::SpeculationUsage> speculation_;                 // of the nodes left
  v1::FinishReason finish_reason_ = v1::FINISH_REASON_UNSPECIFIED;  // of the last node
  int refused_ = 0;                                                 // edges, by the budget
  bool streamed_ = false;  // the client has tokens of the present step
  std::atomic<bool> paused_{false};
  absl::Status stopped_;  // by the client or the clock
  bool done_ = false;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_QUERY_H_
