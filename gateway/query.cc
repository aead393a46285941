#include "gateway/query.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/strings.h"
#include "common/utf8.h"
#include "gateway/judging/expected_accuracy.h"
#include "gateway/query_step.h"
#include "gateway/speculation_usage.h"
#include "router/node_bounds.h"
#include "router/usage.h"

namespace octogate::gateway {
namespace {

// Of an error inside an event or an input.
constexpr size_t kMaxErrorBytes = 4096;

// The node's kind as manifests spell it.
std::string KindName(const v1::Node& node) {
  const auto* kind = v1::Node::descriptor()->FindFieldByNumber(node.kind_case());
  return kind == nullptr ? "" : kind->json_name();
}

std::string ErrorText(const absl::Status& status) {
  return SanitizeUtf8(std::string_view(status.message().data(), status.message().size()),
                      kMaxErrorBytes);
}

absl::Status WithPrefix(const absl::Status& status, const std::string& prefix) {
  absl::Status result(status.code(), absl::StrCat(prefix, status.message()));
  status.ForEachPayload(
      [&](absl::string_view type, const absl::Cord& payload) { result.SetPayload(type, payload); });
  return result;
}

}  // namespace

Query::Query(const QueryEnvironment& environment, std::shared_ptr<const GraphState> graph,
             v1::GenerateRequest request, absl::Time deadline, QuerySink* sink,
             std::unique_ptr<AnswerRecorder> answer)
    : environment_(environment),
      graph_(std::move(graph)),
      shared_request_(std::make_shared<v1::GenerateRequest>(std::move(request))),
      request_(*shared_request_),
      started_(absl::Now()),
      deadline_(std::min(
          deadline, started_ + absl::Milliseconds(graph_->graph().spec().limits().timeout_ms()))),
      level_(request_.events() == v1::EVENT_LEVEL_UNSPECIFIED ? v1::EVENT_LEVEL_ALL
                                                              : request_.events()),
      sink_(sink),
      trace_id_(NewTraceId()),
      plan_(&graph_->graph()),
      budget_(&graph_->graph(), request_),
      answer_(std::move(answer)) {}

Query::~Query() = default;

const std::string& Query::UserQuery() const { return UserQueryOf(request_); }

bool Query::IsToolResult() const {
  return EndsWithToolResult(request_) &&
         step_->input == request_.messages(request_.messages_size() - 1).content();
}

absl::Duration Query::Elapsed() const { return absl::Now() - started_; }

void Query::Start() {
  self_ = shared_from_this();
  serializer_.Run([this, self = self_] {
    const std::string& query = UserQuery();
    environment_.metrics->OnQueryStarted();
    if (environment_.traces->Sample()) {
      recorder_ = std::make_unique<TraceRecorder>(trace_id_, started_, query, request_.tenant(),
                                                  graph_->version());
    }
    if (AllEvents() || recorder_ != nullptr) {
      v1::GenerateResponse event;
      event.mutable_started()->set_trace_id(trace_id_);
      event.mutable_started()->set_graph_version(graph_->version());
      Record(event);
      if (AllEvents()) Send(event);
    }
    Advance(plan_.Start(request_.node()),
            request_.messages(request_.messages_size() - 1).content());
  });
}

void Query::Cancel() { Stop(absl::CancelledError("the client has cancelled the query")); }

void Query::Expire() { Stop(absl::DeadlineExceededError("the time of the query is over")); }

void Query::Stop(const absl::Status& reason) {
  serializer_.Run([this, self = shared_from_this(), reason] {
    if (done_ || !stopped_.ok()) return;
    stopped_ = reason;
    if (step_ == nullptr) return;
    if (step_->call != nullptr) step_->call->Cancel();
    if (step_->cancellation != nullptr) step_->cancellation->Cancel();
    if (step_->begun != nullptr && !step_->begun->exchange(true)) LeaveNode(reason);
  });
}

void Query::Resume() {
  serializer_.Run([this, self = shared_from_this()] {
    paused_.store(false);
    if (step_ != nullptr && step_->call != nullptr) step_->call->Resume();
  });
}

void Query::Advance(const absl::StatusOr<router::PlanStep>& next, std::string input) {
  if (!next.ok()) {
    Finish(next.status());
    return;
  }
  const NodeRuntime* const node = graph_->FindNode(next->node->name());
  const std::string& name = next->node->name();
  step_ = std::make_unique<Step>();
  step_->node = node;
  step_->number = next->number;
  step_->input = std::move(input);
  streamed_ = false;
  if (answer_ != nullptr) answer_->OnNode(*node->node, request_);
  node->counters->queries.fetch_add(1, std::memory_order_relaxed);
  node->counters->in_flight.fetch_add(1, std::memory_order_relaxed);
  step_->intermediate = plan_.HasOpenEdge(v1::EDGE_CONDITION_SUCCESS);
  step_->hold = plan_.HasOpenEdge(v1::EDGE_CONDITION_LOW_CONFIDENCE);
  step_->keep_output = step_->intermediate || node->keeps_texts || step_->hold ||
                       plan_.HasOpenEdge(v1::EDGE_CONDITION_ERROR) ||
                       level_ == v1::EVENT_LEVEL_RESULT;
  if (!stopped_.ok()) {
    LeaveNode(stopped_);
  } else if (absl::Now() >= deadline_) {
    LeaveNode(absl::DeadlineExceededError(
        absl::StrCat("the query's time was over before node \"", name, "\" began")));
  } else if (environment_.drained->Contains(name)) {
    LeaveNode(absl::UnavailableError(absl::StrCat("node \"", name, "\" is draining")));
  } else if (node->node->has_router()) {
    EmitNodeEntered("");
    RunRouter();
  } else if (node->node->has_choice()) {
    EmitNodeEntered("");
    RunChoice();
  } else if (node->node->has_tool()) {
    EmitNodeEntered("");
    RunTool();
  } else if (node->node->has_sql()) {
    EmitNodeEntered("");
    RunSql();
  } else if (const std::string why = budget_.WhyNot(*next->node, step_->input.size());
             !why.empty()) {
    LeaveNode(absl::ResourceExhaustedError(absl::StrCat("not begun: ", why)));
  } else if (node->node->has_retriever()) {
    EmitNodeEntered("");
    RunRetriever();
  } else if (node->node->has_vote() || node->node->has_verify()) {
    EmitNodeEntered("");
    RunJudging();
  } else {
    RunModel();
  }
}

void Query::LeaveNode(const absl::Status& status) {
  if (!step_->announced) EmitNodeEntered("");
  if (step_->node->keeps_texts) {
    router::NodeTexts& texts = texts_[step_->node->node->name()];
    texts = {.input = step_->input, .error = ErrorText(status)};
    // One byte more than an input may have is enough to be refused as one.
    if (status.ok()) texts.output = step_->output.substr(0, kMaxInputBytes + 1);
  }
  // What has been streamed cannot be taken back, so nothing else can answer any more.
  const bool may_go_on = status.ok() || (!streamed_ && stopped_.ok());
  const router::NodeOutcome outcome = Outcome(status);
  const absl::StatusOr<router::PlanStep> next =
      may_go_on ? plan_.Next(outcome, [&](const v1::Edge& edge) { return MayTake(edge, outcome); })
                : router::PlanStep();
  if (!next.ok()) {
    EmitNodeLeft(status);
    Finish(next.status());
    return;
  }
  if (next->node == nullptr) {
    if (status.ok() && step_->intermediate) AnswerAfterAll();
    for (v1::GenerateResponse& event : step_->held) {
      streamed_ = true;
      Send(event);
    }
    EmitNodeLeft(status);
    Finish(status.ok() ? status : NodeFailure(status));
    return;
  }
  EmitNodeLeft(status);
  const v1::Edge& edge = *next->edge;
  if (AllEvents() || recorder_ != nullptr) {
    v1::GenerateResponse event;
    event.mutable_edge_taken()->set_from(edge.from());
    event.mutable_edge_taken()->set_to(edge.to());
    event.mutable_edge_taken()->set_on(edge.on());
    event.mutable_edge_taken()->set_reason(router::DescribeCondition(edge, outcome));
    Record(event);
    if (AllEvents()) Send(event);
  }
  std::string input = EdgeInput(edge, status);
  if (input.size() > kMaxInputBytes) {
    Finish(absl::ResourceExhaustedError(absl::StrCat("edge from \"", edge.from(), "\" to \"",
                                                     edge.to(), "\": the input has ", input.size(),
                                                     " bytes, more than ", kMaxInputBytes)));
    return;
  }
  Advance(next, std::move(input));
}

void Query::AnswerAfterAll() {
  const v1::Node& node = *step_->node->node;
  // A schema is no answer to a question.
  if (node.has_retriever() || step_->output.empty()) return;
  v1::GenerateResponse event;
  event.mutable_tokens()->set_node(node.name());
  event.mutable_tokens()->set_text(step_->output);
  // A model's tokens have been recorded as they came.
  if (!node.has_model() && !node.has_replay()) Record(event);
  if (level_ == v1::EVENT_LEVEL_RESULT) return;
  streamed_ = true;
  Send(event);
}

std::string Query::EdgeInput(const v1::Edge& edge, const absl::Status& status) const {
  const std::string error = ErrorText(status);
  return router::RenderEdgeInput(edge, {.query = UserQuery(),
                                        .input = step_->input,
                                        .output = step_->output,
                                        .error = error,
                                        .texts_of =
                                            [this](std::string_view node) {
                                              const auto texts = texts_.find(ToAbsl(node));
                                              return texts == texts_.end() ? nullptr
                                                                           : &texts->second;
                                            },
                                        .max_bytes = kMaxInputBytes});
}

router::NodeOutcome Query::Outcome(const absl::Status& status) const {
  const v1::Node& node = *step_->node->node;
  const AnswerMeasures& measures = step_->measures;
  const bool by_tokens = node.has_model() || node.has_replay();
  return {
      .status = status,
      .confidence = measures.mean(),
      .minimum = measures.minimum(),
      .entropy = measures.entropy(),
      .expected_accuracy = by_tokens ? ExpectedAccuracy(node, measures.tokens()) : measures.mean(),
      .tokens = by_tokens ? measures.tokens() : 0};
}

std::string Query::WhyNotBeyond(const v1::Node& retriever) const {
  QueryBudget left = budget_;
  left.Spend(router::MostCalls(graph_->graph(), retriever), 0);
  std::string first;
  for (const v1::Edge* const edge : plan_.OpenEdges(retriever.name(), v1::EDGE_CONDITION_SUCCESS)) {
    std::string why = left.WhyNot(*graph_->FindNode(edge->to())->node, 0);
    if (why.empty()) return "";
    if (first.empty()) first = absl::StrCat("\"", edge->to(), "\" behind it: ", why);
  }
  return first;
}

bool Query::MayTake(const v1::Edge& edge, const router::NodeOutcome& outcome) {
  const v1::Node& to = *graph_->FindNode(edge.to())->node;
  const size_t input = budget_.bounds_cost() ? EdgeInput(edge, outcome.status).size() : 0;
  std::string why = budget_.WhyNot(to, input);
  // A schema is no answer to a question: a link that no model can be asked with is not begun.
  if (why.empty() && to.has_retriever()) why = WhyNotBeyond(to);
  if (why.empty()) return true;
  if (++refused_ > kMaxRefusedEvents) return false;
  if (AllEvents() || recorder_ != nullptr) {
    v1::GenerateResponse event;
    v1::EdgeRefused& refused = *event.mutable_edge_refused();
    refused.set_from(edge.from());
    refused.set_to(edge.to());
    refused.set_on(edge.on());
    refused.set_reason(absl::StrCat(why, "; ", router::DescribeCondition(edge, outcome)));
    Record(event);
    if (AllEvents()) Send(event);
  }
  return false;
}

absl::Status Query::NodeFailure(const absl::Status& status) const {
  const std::string prefix = absl::StrCat("node \"", step_->node->node->name(), "\": ");
  if (!streamed_) return WithPrefix(status, prefix);
  return WithPrefix(status,
                    absl::StrCat(prefix, "the answer breaks off after ", step_->measures.tokens(),
                                 " tokens, which have been sent: "));
}

void Query::EmitNodeEntered(const std::string& replica) {
  step_->announced = true;
  if (!AllEvents() && recorder_ == nullptr) return;
  v1::GenerateResponse event;
  v1::NodeEntered& entered = *event.mutable_node_entered();
  entered.set_node(step_->node->node->name());
  entered.set_kind(KindName(*step_->node->node));
  entered.set_input(step_->input);
  entered.set_step(step_->number);
  if (replica != "in-process") entered.set_replica(replica);
  Record(event);
  if (AllEvents()) Send(event);
}

void Query::EmitNodeLeft(const absl::Status& status) {
  NodeCounters& counters = *step_->node->counters;
  counters.in_flight.fetch_sub(1, std::memory_order_relaxed);
  if (!status.ok()) counters.errors.fetch_add(1, std::memory_order_relaxed);
  const v1::Node& node = *step_->node->node;
  if (status.ok() && !node.has_router() && !node.has_tool() && !node.has_retriever()) {
    counters.answers.Add(absl::Now() - step_->entered);
  }
  router::AddUsage(step_->usage, &usage_);
  AddSpeculation(step_->speculation, &speculation_);
  finish_reason_ = step_->finish_reason;
  if (answer_ != nullptr) answer_->OnNodeLeft(status, step_->finish_reason);
  if (!AllEvents() && recorder_ == nullptr) return;
  v1::GenerateResponse event;
  v1::NodeLeft& left = *event.mutable_node_left();
  left.set_node(node.name());
  left.set_code(static_cast<int>(status.code()));
  left.set_error(ErrorText(status));
  left.set_confidence(step_->measures.mean());
  if (status.ok()) left.set_finish_reason(step_->finish_reason);
  *left.mutable_usage() = step_->usage;
  if (step_->speculation) *left.mutable_speculation() = *step_->speculation;
  left.set_duration_us(absl::ToInt64Microseconds(absl::Now() - step_->entered));
  if (step_->first_token != absl::InfinitePast()) {
    left.set_first_token_us(absl::ToInt64Microseconds(step_->first_token - step_->entered));
  }
  Record(event);
  if (AllEvents()) Send(event);
}

void Query::Record(const v1::GenerateResponse& event) {
  if (recorder_ != nullptr) recorder_->Record(Elapsed(), event);
}

void Query::Send(v1::GenerateResponse& event) {
  if (answer_ != nullptr) answer_->OnEvent(event);
  const bool pause = sink_->OnEvent(event) == Flow::kPause;
  // Who waits for the answer does not wait for this client to read.
  if (pause && answer_ != nullptr) answer_->Release();
  paused_.store(pause);
}

void Query::Finish(const absl::Status& status) {
  done_ = true;
  const absl::Duration duration = Elapsed();
  environment_.metrics->OnQueryDone(status.code(), duration);
  environment_.metrics->OnTokens(usage_);
  v1::GenerateResponse event;
  if (status.ok()) {
    v1::Finished& finished = *event.mutable_finished();
    finished.set_node(step_->node->node->name());
    finished.set_finish_reason(finish_reason_);
    *finished.mutable_usage() = usage_;
    *finished.mutable_routing_usage() = routing_usage_;
    if (speculation_) *finished.mutable_speculation() = *std::move(speculation_);
    finished.set_calls(budget_.calls());
    finished.set_cost(budget_.cost());
    finished.set_duration_us(absl::ToInt64Microseconds(duration));
    finished.set_trace_id(trace_id_);
    Record(event);
    if (level_ == v1::EVENT_LEVEL_RESULT) finished.set_text(std::move(step_->output));
  }
  if (recorder_ != nullptr) {
    environment_.traces->Add(recorder_->Finish(duration, status));
    recorder_ = nullptr;
  }
  step_ = nullptr;
  if (answer_ != nullptr) answer_->OnDone(status, event);
  answer_ = nullptr;
  // The sink's last call may destroy what holds the query.
  const std::shared_ptr<Query> self = std::move(self_);
  sink_->OnDone(status, status.ok() ? &event : nullptr);
}

}  // namespace octogate::gateway
