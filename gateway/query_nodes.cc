// How a query runs each kind of node but retrievers, which are query_retriever.cc's; what comes
// before and after is query.cc's.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gateway/cache/routing_cache.h"
#include "gateway/catalog/sql_run.h"
#include "gateway/choice/choice_call.h"
#include "gateway/choice/choice_decision.h"
#include "gateway/judging/verify_call.h"
#include "gateway/judging/vote_call.h"
#include "gateway/node_generation.h"
#include "gateway/query.h"
#include "gateway/query_step.h"
#include "router/node_bounds.h"
#include "router/usage.h"

namespace octogate::gateway {
namespace {

// A tool that answers within this is not worth waking a thread for.
constexpr absl::Duration kInlineToolTime = absl::Milliseconds(1);

// Leaves the alternatives that the client has asked for.
void TrimLogprobs(int wanted, v1::WorkerGenerateResponse* message) {
  if (wanted == 0) {
    message->clear_logprobs();
    return;
  }
  for (v1::TokenLogprob& token : *message->mutable_logprobs()) {
    if (token.top_size() > wanted) {
      token.mutable_top()->DeleteSubrange(wanted, token.top_size() - wanted);
    }
  }
}

}  // namespace

void Query::RunRouter() {
  router::RouteOptions options;
  options.excluded = *environment_.drained->names();
  if (answer_ != nullptr) answer_->OnRoute(options.excluded);
  options.context.deadline = deadline_;
  step_->cancellation = std::make_shared<Cancellation>();
  options.context.cancellation = step_->cancellation;
  options.context.tenant = request_.tenant();
  const std::string& router = step_->node->node->name();
  if (request_.session().empty()) {
    Route(std::move(options));
    return;
  }
  options.stay = IsToolResult();
  if (!ReadsSession(*step_->node->node, options)) {
    Route(std::move(options));
    return;
  }
  environment_.sessions->Find(
      request_.tenant(), request_.session(), router,
      [self = shared_from_this(), options = std::move(options)](std::string node) mutable {
        self->serializer_.Run(
            [self, options = std::move(options), node = std::move(node)]() mutable {
              options.session_node = std::move(node);
              // What has been stopped meanwhile has nobody who would wait for a decision.
              if (!self->stopped_.ok()) {
                self->LeaveNode(self->stopped_);
              } else {
                self->Route(std::move(options));
              }
            });
      });
}

void Query::Route(router::RouteOptions options) {
  const std::string& router = step_->node->node->name();
  RouteCached(graph_, router, IsToolResult() ? UserQuery() : step_->input, std::move(options),
              request_.bypass_cache(), environment_.metrics,
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
  // What was decided before took no time.
  if (!decision->cached())
    environment_.metrics->OnRoute(absl::Microseconds(decision->duration_us()));
  if (answer_ != nullptr) answer_->OnDecision(*decision);
  if (!decision->kept_from().empty()) environment_.metrics->OnSessionKept();
  absl::StatusOr<router::PlanStep> next = plan_.HandOver(decision->node());
  // A tool's result goes on as it came: what was made of the user's query has been answered.
  if (IsToolResult()) decision->set_argument(step_->input);
  std::string argument = decision->argument();
  if (!request_.session().empty()) {
    environment_.sessions->Set(request_.tenant(), request_.session(), decision->router(),
                               decision->node());
  }
  // The decision's confidence is the router's.
  step_->measures.Set(decision->probability());
  step_->usage = decision->usage();
  router::AddUsage(decision->usage(), &routing_usage_);
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
  const absl::Status begun = RunOn(
      environment_.tool_threads, [this, tool = step_->node->tool.get(), input = step_->input] {
        ToolContext patient;
        patient.deadline = deadline_;
        return [this, result = tool->Run(input, patient)] { OnToolOutput(result); };
      });
  if (!begun.ok()) OnToolOutput(begun);
}

absl::Status Query::RunOn(SharedThreads* threads, std::function<std::function<void()>()> work) {
  const auto begun = std::make_shared<std::atomic<bool>>(false);
  step_->begun = begun;
  absl::Status submitted = threads->Submit(
      request_.tenant(), [self = shared_from_this(), begun, work = std::move(work)] {
        if (begun->exchange(true)) return;  // the query has not waited for it
        self->serializer_.Run([self, done = work()] { done(); });
      });
  if (!submitted.ok()) step_->begun = nullptr;
  return submitted;
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
  AnswerWhole(*std::move(output));
  LeaveNode(absl::OkStatus());
}

void Query::RunSql() {
  step_->cancellation = std::make_shared<Cancellation>();
  const auto done = [this](absl::StatusOr<std::string> answer) {
    environment_.metrics->OnSqlStatement(answer.status().code(), absl::Now() - step_->entered);
    OnToolOutput(std::move(answer));
  };
  const absl::Status begun = RunOn(
      environment_.sql_threads,
      [this, done, node = step_->node, input = step_->input, cancellation = step_->cancellation] {
        return [done, answer = gateway::RunSql(node->node->sql(), *node->catalog, input,
                                               request_.tenant(), deadline_, cancellation)] {
          done(answer);
        };
      });
  if (!begun.ok()) done(begun);
}

void Query::AnswerWhole(std::string output) {
  step_->output = std::move(output);
  const bool to_client = !step_->intermediate && level_ != v1::EVENT_LEVEL_RESULT;
  if (step_->intermediate || (!to_client && recorder_ == nullptr)) return;
  v1::GenerateResponse event;
  event.mutable_tokens()->set_node(step_->node->node->name());
  event.mutable_tokens()->set_text(step_->output);
  Record(event);
  if (!to_client) return;
  if (step_->hold) {
    step_->held.push_back(std::move(event));
  } else {
    streamed_ = true;
    Send(event);
  }
}

void Query::RunChoice() {
  const v1::Node& node = *step_->node->node;
  ChoiceDecision decision =
      DecideChoice(*graph_, *step_->node, IsToolResult() ? UserQuery() : step_->input, step_->input,
                   request_, budget_, *environment_.drained);
  if (!decision.status.ok() || router::HandsOver(node)) {
    environment_.metrics->OnJudged(Metrics::Judging::kChoice, decision.status);
  }
  if (!decision.status.ok()) {
    LeaveNode(decision.status);
    return;
  }
  step_->measures.Set(decision.event.probability());
  if (AllEvents() || recorder_ != nullptr) {
    v1::GenerateResponse event;
    *event.mutable_decision() = decision.event;
    Record(event);
    if (AllEvents()) Send(event);
  }
  if (!router::HandsOver(node)) {
    step_->call = StartChoice(*step_->node, std::move(decision), budget_, JudgingContextOf(),
                              JudgedCallbackOf());
    return;
  }
  absl::StatusOr<router::PlanStep> next = plan_.HandOver(decision.event.node());
  std::string input = std::move(step_->input);
  EmitNodeLeft(absl::OkStatus());
  Advance(next, std::move(input));
}

JudgingContext Query::JudgingContextOf() const {
  return {.graph = graph_,
          .request = shared_request_,
          .query = UserQuery(),
          .input = step_->input,
          .deadline = deadline_,
          .drained = environment_.drained,
          .links = links_};
}

JudgedCallback Query::JudgedCallbackOf() {
  return [self = shared_from_this()](JudgedAnswer answer) {
    self->serializer_.Run(
        [self, answer = std::move(answer)]() mutable { self->OnJudged(std::move(answer)); });
  };
}

void Query::RunJudging() {
  const v1::Node& node = *step_->node->node;
  step_->call = node.has_vote()
                    ? StartVote(node.vote(), JudgingContextOf(), JudgedCallbackOf())
                    : StartVerification(node.verify(), JudgingContextOf(), JudgedCallbackOf());
}

void Query::OnJudged(JudgedAnswer answer) {
  step_->call = nullptr;
  step_->usage = answer.usage;
  step_->speculation = std::move(answer.speculation);
  step_->finish_reason = answer.finish_reason;
  step_->measures.Set(answer.confidence);
  for (const v1::Ballot& ballot : answer.event.ballots()) {
    budget_.Spend(
        1, router::CostOf(*graph_->FindNode(ballot.node())->node, ballot.usage().prompt_tokens(),
                          ballot.usage().completion_tokens()));
  }
  EmitJudged(std::move(answer.event));
  if (!stopped_.ok()) answer.status = stopped_;
  const v1::Node& node = *step_->node->node;
  environment_.metrics->OnJudged(node.has_choice() ? Metrics::Judging::kChoice
                                 : node.has_vote() ? Metrics::Judging::kVote
                                                   : Metrics::Judging::kVerification,
                                 answer.status);
  if (answer.status.ok()) AnswerWhole(std::move(answer.text));
  LeaveNode(answer.status);
}

void Query::EmitJudged(v1::Judged judged) {
  if (!AllEvents() && recorder_ == nullptr) return;
  v1::GenerateResponse event;
  *event.mutable_judged() = std::move(judged);
  event.mutable_judged()->set_node(step_->node->node->name());
  Record(event);
  if (AllEvents()) Send(event);
}

void Query::RunModel() {
  const std::shared_ptr<Query> self = shared_from_this();
  auto made = WorkerRequest(*step_->node, request_, step_->input, links_);
  if (!made.ok()) {
    LeaveNode(made.status());
    return;
  }
  std::shared_ptr<v1::WorkerGenerateRequest> request = *std::move(made);
  // Measures may need more than the client wants to see.
  int logprobs = request_.top_logprobs();
  if (plan_.HasOpenMeasure(v1::CONFIDENCE_MEASURE_MINIMUM)) {
    logprobs = std::max(logprobs, kMinimumLogprobs);
  }
  if (plan_.HasOpenMeasure(v1::CONFIDENCE_MEASURE_ENTROPY)) {
    logprobs = std::max(logprobs, kEntropyLogprobs);
  }
  request->set_top_logprobs(logprobs);
  step_->call = StartGeneration(
      *step_->node, std::move(request), deadline_,
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
  if (message.ids_size() > 0 && step_->measures.tokens() == 0) {
    step_->first_token = absl::Now();
    environment_.metrics->OnFirstToken(step_->first_token - step_->entered);
  }
  step_->measures.Add(message);
  TrimLogprobs(request_.top_logprobs(), &message);
  if (message.has_end()) {
    step_->finish_reason = message.end().finish_reason();
    step_->usage = message.end().usage();
    if (message.end().has_speculation()) step_->speculation = message.end().speculation();
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
  // A generation that fails does not say what it has used.
  if (!status.ok()) step_->usage.set_completion_tokens(step_->measures.tokens());
  budget_.Spend(1, router::CostOf(*step_->node->node, step_->usage.prompt_tokens(),
                                  step_->usage.completion_tokens()));
  // The beginning of a statement may be a statement, which says something else.
  const bool is_cut = step_->finish_reason == v1::FINISH_REASON_LENGTH && step_->intermediate &&
                      (request_.has_grammar() || step_->node->node->model().has_grammar());
  LeaveNode(
      !step_->failure.ok()             ? step_->failure
      : !stopped_.ok() && !status.ok() ? stopped_
      : status.ok() && is_cut
          ? absl::OutOfRangeError(absl::StrCat(
                "the answer had reached its ", step_->usage.completion_tokens(),
                " tokens before it was a whole text of its grammar; raise maxTokens or, where the "
                "model's context is full, shorten its prompt"))
          : status);
}

}  // namespace octogate::gateway
