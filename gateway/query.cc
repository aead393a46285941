#include "gateway/query.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/cancellation.h"
#include "common/utf8.h"
#include "gateway/tenant.h"

namespace octogate::gateway {
namespace {

// A tool that answers within this is not worth waking a thread for.
constexpr absl::Duration kInlineToolTime = absl::Milliseconds(1);

// Of an error inside an event or an input.
constexpr size_t kMaxErrorBytes = 4096;

void AddUsage(const v1::Usage& usage, v1::Usage* sum) {
  sum->set_prompt_tokens(sum->prompt_tokens() + usage.prompt_tokens());
  sum->set_completion_tokens(sum->completion_tokens() + usage.completion_tokens());
  sum->set_cached_tokens(sum->cached_tokens() + usage.cached_tokens());
}

std::string NewTraceId() {
  thread_local absl::BitGen random;
  return absl::StrCat(absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16),
                      absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16));
}

const char* KindName(const v1::Node& node) {
  switch (node.kind_case()) {
    case v1::Node::kRouter:
      return "router";
    case v1::Node::kTool:
      return "tool";
    default:
      return "model";
  }
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
  double logprob_sum = 0;
  int64_t tokens = 0;
  v1::FinishReason finish_reason = v1::FINISH_REASON_STOP;
  v1::Usage usage;
  bool announced = false;
  std::shared_ptr<ModelCall> call;             // of a model
  std::shared_ptr<Cancellation> cancellation;  // of a router

  double Confidence() const {
    return tokens == 0 ? 1.0
                       : std::clamp(std::exp(logprob_sum / static_cast<double>(tokens)), 0.0, 1.0);
  }
};

Query::Query(const QueryEnvironment& environment, std::shared_ptr<const GraphState> graph,
             v1::GenerateRequest request, absl::Time deadline, QuerySink* sink)
    : environment_(environment),
      graph_(std::move(graph)),
      request_(std::move(request)),
      started_(absl::Now()),
      deadline_(std::min(
          deadline, started_ + absl::Milliseconds(graph_->graph().spec().limits().timeout_ms()))),
      level_(request_.events() == v1::EVENT_LEVEL_UNSPECIFIED ? v1::EVENT_LEVEL_ALL
                                                              : request_.events()),
      sink_(sink),
      trace_id_(NewTraceId()),
      plan_(&graph_->graph()) {}

Query::~Query() = default;

const std::string& Query::UserQuery() const {
  return request_.messages(request_.messages_size() - 1).content();
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
    Advance(plan_.Start(request_.node()), query);
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
  node->counters->queries.fetch_add(1, std::memory_order_relaxed);
  node->counters->in_flight.fetch_add(1, std::memory_order_relaxed);
  step_->intermediate = plan_.HasOpenEdge(v1::EDGE_CONDITION_SUCCESS);
  step_->hold = plan_.HasOpenEdge(v1::EDGE_CONDITION_LOW_CONFIDENCE);
  step_->keep_output = step_->intermediate || step_->hold ||
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
  } else if (node->node->has_tool()) {
    EmitNodeEntered("");
    RunTool();
  } else {
    RunModel();
  }
}

void Query::RunRouter() {
  router::RouteOptions options;
  options.excluded = *environment_.drained->names();
  options.context.deadline = deadline_;
  step_->cancellation = std::make_shared<Cancellation>();
  options.context.cancellation = step_->cancellation;
  options.context.tenant = request_.tenant();
  graph_->routing->Route(step_->node->node->name(), step_->input, std::move(options),
                         [self = shared_from_this()](absl::StatusOr<v1::Decision> decision) {
                           self->serializer_.Run([self, decision = std::move(decision)]() mutable {
                             self->OnDecision(std::move(decision));
                           });
                         });
}

void Query::OnDecision(absl::StatusOr<v1::Decision> decision) {
  if (!decision.ok()) {
    LeaveNode(decision.status());
    return;
  }
  environment_.metrics->OnRoute(absl::Microseconds(decision->duration_us()));
  absl::StatusOr<router::PlanStep> next = plan_.HandOver(decision->node());
  std::string argument = decision->argument();
  // The decision's confidence is the router's.
  step_->tokens = 1;
  step_->logprob_sum = std::log(decision->probability());
  step_->usage = decision->usage();
  AddUsage(decision->usage(), &routing_usage_);
  if (AllEvents() || recorder_ != nullptr) {
    v1::GenerateResponse event;
    *event.mutable_decision() = *std::move(decision);
    Record(event);
    if (AllEvents()) Send(event);
  }
  EmitNodeLeft(absl::OkStatus());
  Advance(next, std::move(argument));
}

void Query::RunTool() {
  ToolContext context;
  context.deadline = std::min(deadline_, absl::Now() + kInlineToolTime);
  const bool is_last_try = context.deadline == deadline_;
  absl::StatusOr<std::string> output = step_->node->tool->Run(step_->input, context);
  if (is_last_try || !absl::IsDeadlineExceeded(output.status())) {
    OnToolOutput(std::move(output));
    return;
  }
  // It takes longer: once more, where it keeps nobody else waiting.
  const bool submitted = environment_.tool_threads->Submit(
      [self = shared_from_this(), tool = step_->node->tool.get(), input = step_->input] {
        ToolContext patient;
        patient.deadline = self->deadline_;
        absl::StatusOr<std::string> result = tool->Run(input, patient);
        self->serializer_.Run([self, result = std::move(result)]() mutable {
          self->OnToolOutput(std::move(result));
        });
      });
  if (!submitted) {
    LeaveNode(absl::ResourceExhaustedError("too many long tool calls are waiting"));
  }
}

void Query::OnToolOutput(absl::StatusOr<std::string> output) {
  if (!stopped_.ok()) {
    LeaveNode(stopped_);
    return;
  }
  if (!output.ok()) {
    LeaveNode(output.status());
    return;
  }
  const bool is_answer = !step_->intermediate;
  if (is_answer && (level_ != v1::EVENT_LEVEL_RESULT || recorder_ != nullptr)) {
    v1::GenerateResponse event;
    event.mutable_tokens()->set_node(step_->node->node->name());
    event.mutable_tokens()->set_text(*output);
    Record(event);
    streamed_ = level_ != v1::EVENT_LEVEL_RESULT;
    if (streamed_) Send(event);
  }
  step_->output = *std::move(output);
  LeaveNode(absl::OkStatus());
}

std::shared_ptr<v1::WorkerGenerateRequest> Query::WorkerRequest() const {
  const v1::ModelNode& node = step_->node->node->model();
  auto request = std::make_shared<v1::WorkerGenerateRequest>();
  v1::WorkerConversation& conversation = *request->mutable_prompt()->mutable_conversation();
  if (!node.system().empty()) {
    v1::Message& system = *conversation.add_messages();
    system.set_role("system");
    system.set_content(node.system());
  }
  for (int i = 0; i + 1 < request_.messages_size(); ++i) {
    *conversation.add_messages() = request_.messages(i);
  }
  v1::Message& query = *conversation.add_messages();
  query.set_role("user");
  query.set_content(step_->input);
  const bool lower = request_.max_tokens() > 0 && request_.max_tokens() < node.max_tokens();
  request->set_max_tokens(lower ? request_.max_tokens() : node.max_tokens());
  if (request_.has_sampling()) {
    *request->mutable_sampling() = request_.sampling();
  } else if (node.has_sampling()) {
    *request->mutable_sampling() = node.sampling();
  }
  *request->mutable_stop() = node.stop();
  request->mutable_stop()->MergeFrom(request_.stop());
  request->set_top_logprobs(request_.top_logprobs());
  *request->mutable_terms() = ServiceTermsOf(request_.tenant());
  return request;
}

void Query::RunModel() {
  const std::shared_ptr<Query> self = shared_from_this();
  step_->call = step_->node->replicas->Generate(
      WorkerRequest(), deadline_,
      [self](const std::string& replica) {
        self->serializer_.Run([self, replica] { self->EmitNodeEntered(replica); });
      },
      [self](v1::WorkerGenerateResponse& message) {
        self->serializer_.Run(
            [self, message = std::move(message)]() mutable { self->OnMessage(message); });
        return self->paused_.load() ? Flow::kPause : Flow::kContinue;
      },
      [self](const absl::Status& status) {
        self->serializer_.Run([self, status] { self->OnModelDone(status); });
      });
}

void Query::OnMessage(v1::WorkerGenerateResponse& message) {
  if (message.ids_size() > 0 && step_->tokens == 0) {
    step_->first_token = absl::Now();
    environment_.metrics->OnFirstToken(step_->first_token - step_->entered);
  }
  step_->tokens += message.ids_size();
  step_->logprob_sum += message.logprob_sum();
  if (message.has_end()) {
    step_->finish_reason = message.end().finish_reason();
    step_->usage = message.end().usage();
  }
  if (!step_->failure.ok() || (message.ids_size() == 0 && message.text().empty())) return;
  step_->held_bytes += step_->hold || step_->keep_output ? message.ByteSizeLong() : 0;
  if (step_->held_bytes > kMaxHeldBytes) {
    step_->failure = absl::ResourceExhaustedError(
        absl::StrCat("the output is longer than the ", kMaxHeldBytes,
                     " bytes that are kept until it is known where it goes"));
    step_->call->Cancel();
    return;
  }
  if (step_->keep_output) step_->output += message.text();
  const bool to_client = level_ != v1::EVENT_LEVEL_RESULT && !step_->intermediate;
  if (!to_client && recorder_ == nullptr) return;
  v1::GenerateResponse event;
  v1::Tokens& tokens = *event.mutable_tokens();
  tokens.set_node(step_->node->node->name());
  *tokens.mutable_text() = std::move(*message.mutable_text());
  tokens.mutable_ids()->Swap(message.mutable_ids());
  tokens.mutable_logprobs()->Swap(message.mutable_logprobs());
  Record(event);
  if (!to_client) return;
  if (step_->hold) {
    step_->held.push_back(std::move(event));
  } else {
    streamed_ = true;
    Send(event);
  }
}

void Query::OnModelDone(const absl::Status& status) {
  step_->call = nullptr;
  LeaveNode(!step_->failure.ok()             ? step_->failure
            : !stopped_.ok() && !status.ok() ? stopped_
                                             : status);
}

void Query::LeaveNode(const absl::Status& status) {
  if (!step_->announced) EmitNodeEntered("");
  // What has been streamed cannot be taken back, so nothing else can answer any more.
  const bool may_go_on = status.ok() || (!streamed_ && stopped_.ok());
  const absl::StatusOr<router::PlanStep> next =
      may_go_on ? plan_.Next({status, step_->Confidence()}) : router::PlanStep();
  if (!next.ok()) {
    EmitNodeLeft(status);
    Finish(next.status());
    return;
  }
  if (next->node == nullptr) {
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
    Record(event);
    if (AllEvents()) Send(event);
  }
  const std::string error = ErrorText(status);
  std::string input = router::RenderEdgeInput(
      edge, {.query = UserQuery(), .input = step_->input, .output = step_->output, .error = error});
  if (input.size() > kMaxInputBytes) {
    Finish(absl::ResourceExhaustedError(absl::StrCat("edge from \"", edge.from(), "\" to \"",
                                                     edge.to(), "\": the input has ", input.size(),
                                                     " bytes, more than ", kMaxInputBytes)));
    return;
  }
  Advance(next, std::move(input));
}

absl::Status Query::NodeFailure(const absl::Status& status) const {
  const std::string prefix = absl::StrCat("node \"", step_->node->node->name(), "\": ");
  if (!streamed_) return WithPrefix(status, prefix);
  return WithPrefix(status, absl::StrCat(prefix, "the answer breaks off after ", step_->tokens,
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
  // A generation that fails does not say what it has used.
  if (!status.ok() && step_->node->node->has_model()) {
    step_->usage.set_completion_tokens(step_->tokens);
  }
  AddUsage(step_->usage, &usage_);
  finish_reason_ = step_->finish_reason;
  if (!AllEvents() && recorder_ == nullptr) return;
  v1::GenerateResponse event;
  v1::NodeLeft& left = *event.mutable_node_left();
  left.set_node(step_->node->node->name());
  left.set_code(static_cast<int>(status.code()));
  left.set_error(ErrorText(status));
  left.set_confidence(step_->Confidence());
  if (status.ok()) left.set_finish_reason(step_->finish_reason);
  *left.mutable_usage() = step_->usage;
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
  paused_.store(sink_->OnEvent(event) == Flow::kPause);
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
  // The sink's last call may destroy what holds the query.
  const std::shared_ptr<Query> self = std::move(self_);
  sink_->OnDone(status, status.ok() ? &event : nullptr);
}

}  // namespace octogate::gateway
