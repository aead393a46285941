// How a query runs a retriever: it links, and where the retriever has a table node, asks that for
// tables and links again.
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/strings.h"
#include "common/utf8.h"
#include "gateway/catalog/linking.h"
#include "gateway/catalog/table_choice.h"
#include "gateway/judging/member_call.h"
#include "gateway/node_generation.h"
#include "gateway/query.h"
#include "gateway/query_step.h"
#include "gateway/speculation_usage.h"
#include "router/node_bounds.h"
#include "router/usage.h"

namespace octogate::gateway {
namespace {

constexpr size_t kMaxReasonBytes = 256;
// As a link lists by default.
constexpr int kDroppedListed = 20;

std::string Reason(std::string_view text) { return SanitizeUtf8(text, kMaxReasonBytes); }

}  // namespace

void Query::RunRetriever() {
  step_->cancellation = std::make_shared<Cancellation>();
  const v1::RetrieverNode& retriever = step_->node->node->retriever();
  v1::LinkSchemaRequest request = RetrieverRequest(retriever, step_->input);
  const bool asks = !retriever.table_node().empty();
  if (asks) request.set_max_dropped(kColumnsForTables);
  const absl::Status begun = RunOn(
      environment_.link_threads,
      [this, asks, catalog = step_->node->catalog, request = std::move(request),
       context = router::CallContext{.deadline = deadline_,
                                     .cancellation = step_->cancellation,
                                     .tenant = request_.tenant()}]() -> std::function<void()> {
        const auto question = QuestionLink::Make(*catalog, request, context);
        if (!question.ok()) return [this, status = question.status()] { OnLinked(status); };
        const absl::StatusOr<v1::LinkSchemaResponse> link = (*question)->Link();
        if (!asks || !link.ok()) return [this, link] { OnLinked(link); };
        return [this, question = *question, link = *link,
                prompt = PromptForTables(*(*question)->snapshot().catalog, (*question)->visible(),
                                         *link, (*question)->question())] {
          AskForTables(question, link, prompt);
        };
      });
  if (!begun.ok()) OnLinked(begun);
}

void Query::AskForTables(const std::shared_ptr<const QuestionLink>& question,
                         v1::LinkSchemaResponse link, const TablePrompt& prompt) {
  if (!stopped_.ok()) {
    OnLinked(stopped_);
    return;
  }
  const std::string& name = step_->node->node->retriever().table_node();
  const bool drained = environment_.drained->Contains(name);
  if (prompt.tables < 2 || drained) {
    v1::Judged judged;
    judged.set_reason(Reason(
        drained ? absl::StrCat("the node \"", name, "\" is draining: the link stays as it was")
                : "there are not two tables to choose from"));
    EmitJudged(std::move(judged));
    OnLinked(std::move(link));
    return;
  }
  const NodeRuntime& asked = *graph_->FindNode(name);
  // It sees the prompt alone, not the conversation.
  v1::GenerateRequest alone;
  alone.add_messages()->set_role("user");
  alone.set_tenant(request_.tenant());
  auto done = [this, self = shared_from_this(), question, link = std::move(link),
               shown = prompt.tables](MemberAnswer answer) {
    serializer_.Run([this, self, question, link, shown, answer = std::move(answer)] {
      OnTables(question, link, shown, answer);
    });
  };
  auto request = WorkerRequest(asked, alone, prompt.text, links_);
  if (!request.ok()) {
    done({.status = request.status()});
    return;
  }
  // Half of what is left at most: one that hangs leaves time for what comes behind the link.
  const absl::Time now = absl::Now();
  step_->call =
      StartMemberCall(asked, *std::move(request), now + (deadline_ - now) / 2, std::move(done));
}

void Query::OnTables(const std::shared_ptr<const QuestionLink>& question,
                     v1::LinkSchemaResponse link, int shown, const MemberAnswer& answer) {
  step_->call = nullptr;
  const schema::Catalog& catalog = *question->snapshot().catalog;
  const NodeRuntime& asked = *graph_->FindNode(step_->node->node->retriever().table_node());
  const std::string& name = asked.node->name();
  router::AddUsage(answer.usage, &step_->usage);
  AddSpeculation(answer.speculation, &step_->speculation);
  budget_.Spend(1, router::CostOf(*asked.node, answer.usage.prompt_tokens(),
                                  answer.usage.completion_tokens()));
  std::vector<uint32_t> tables;
  if (answer.status.ok()) tables = TablesNamedIn(answer.text, catalog, question->visible());
  v1::Judged judged;
  v1::Ballot& ballot = *judged.add_ballots();
  ballot = BallotOf(asked, answer);
  ballot.set_counted(!tables.empty());
  judged.set_confidence(answer.measures.mean());
  absl::Status begun;
  if (!tables.empty() && stopped_.ok()) {
    begun = RunOn(environment_.link_threads, [this, question, tables]() -> std::function<void()> {
      return [this, limited = question->Link(tables)] { OnLinked(limited); };
    });
  }
  std::string reason = absl::StrCat("\"", name, "\" chooses ");
  for (size_t i = 0; i < tables.size(); ++i) {
    absl::StrAppend(&reason, i == 0 ? "" : ", ",
                    TableOf(catalog, question->visible(), tables[i])->name);
  }
  absl::StrAppend(&reason, "; it was shown ", shown, " tables");
  if (!begun.ok()) {
    // What it costs that no thread is free is a wider link, not the query.
    reason =
        absl::StrCat("\"", name, "\" has chosen: the link stays as it was, as ", begun.message());
  } else if (!tables.empty()) {
    judged.set_answer_from(name);
  } else if (answer.status.ok()) {
    reason = absl::StrCat("\"", name, "\" names no table: the link stays as it was");
  } else {
    reason = absl::StrCat("\"", name, "\" failed: the link stays as it was");
  }
  judged.set_reason(Reason(reason));
  EmitJudged(std::move(judged));
  if (tables.empty() || !begun.ok() || !stopped_.ok()) OnLinked(std::move(link));
}

void Query::OnLinked(absl::StatusOr<v1::LinkSchemaResponse> link) {
  const absl::Status status = stopped_.ok() ? link.status() : stopped_;
  environment_.metrics->OnLink(status.code(), absl::Now() - step_->entered);
  if (!status.ok()) {
    LeaveNode(status);
    return;
  }
  const std::string& name = step_->node->node->name();
  links_[name] = AllowedIn(*link);
  if (link->dropped_size() > kDroppedListed) {
    link->mutable_dropped()->DeleteSubrange(kDroppedListed, link->dropped_size() - kDroppedListed);
  }
  std::string text = std::move(*link->mutable_rendered());
  link->clear_rendered();
  if (AllEvents() || recorder_ != nullptr) {
    v1::GenerateResponse event;
    event.mutable_linked()->set_node(name);
    *event.mutable_linked()->mutable_link() = *std::move(link);
    Record(event);
    if (AllEvents()) Send(event);
  }
  AnswerWhole(std::move(text));
  LeaveNode(absl::OkStatus());
}

}  // namespace octogate::gateway
