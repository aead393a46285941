#include "gateway/choice/choice_call.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/utf8.h"
#include "gateway/choice/learned_choice.h"
#include "gateway/judging/answer_form.h"
#include "gateway/judging/member_call.h"
#include "gateway/node_generation.h"
#include "gateway/serializer.h"
#include "gateway/speculation_usage.h"
#include "router/logistic_fit.h"
#include "router/node_bounds.h"
#include "router/usage.h"

namespace octogate::gateway {
namespace {

class ChoiceCall final : public ModelCall, public std::enable_shared_from_this<ChoiceCall> {
 public:
  ChoiceCall(const NodeRuntime& node, ChoiceDecision decision, const QueryBudget& budget,
             JudgingContext context, JudgedCallback on_done)
      : choice_(node.node->choice()),
        learned_(node.choice),
        decision_(std::move(decision)),
        budget_(budget),
        context_(std::move(context)),
        on_done_(std::move(on_done)) {}

  void Start() {
    serializer_.Run([self = shared_from_this()] {
      const absl::Time now = absl::Now();
      self->Ask(self->decision_.member, now + (self->context_.deadline - now) / 2);
    });
  }

  void Cancel() override {
    serializer_.Run([self = shared_from_this()] {
      self->cancelled_ = true;
      if (self->call_ != nullptr) self->call_->Cancel();
    });
  }

  void Resume() override {}

 private:
  struct Asked {
    size_t member;
    MemberAnswer answer;
    std::string normal;  // Empty: no answer.
  };

  // All that follows runs in serializer_.
  void Ask(int member, absl::Time deadline) {
    const NodeRuntime& node = *context_.graph->FindNode(choice_.members(member));
    const auto m = static_cast<size_t>(member);
    const auto done = [self = shared_from_this(), m](MemberAnswer answer) {
      self->serializer_.Run(
          [self, m, answer = std::move(answer)]() mutable { self->OnAnswer(m, answer); });
    };
    auto request = WorkerRequest(node, *context_.request, context_.input, context_.links);
    if (!request.ok()) {
      done({.status = request.status()});
      return;
    }
    (*request)->set_top_logprobs(0);
    call_ = StartMemberCall(node, *std::move(request), deadline, done);
  }

  void OnAnswer(size_t member, MemberAnswer& answer) {
    call_ = nullptr;
    Asked& asked = asked_.emplace_back(Asked{.member = member, .answer = std::move(answer)});
    if (asked.answer.status.ok()) asked.normal = NormalizeAnswer(asked.answer.text, choice_.same());
    const v1::Node& node = *context_.graph->FindNode(Name(member))->node;
    budget_.Spend(1, router::CostOf(node, asked.answer.usage.prompt_tokens(),
                                    asked.answer.usage.completion_tokens()));
    const int second = asked_.size() == 1 && !cancelled_ ? Second() : -1;
    if (second < 0) {
      Finish();
    } else {
      Ask(second, context_.deadline);
    }
  }

  // The member to ask beside the first; negative: none.
  int Second() {
    if (learned_->answers() == nullptr && !asked_[0].normal.empty()) return -1;
    for (size_t m = 0; m < decision_.members.size(); ++m) {
      router::MemberEstimate& member = decision_.members[m];
      member.allowed =
          m != asked_[0].member && !context_.drained->Contains(Name(m)) &&
          budget_.WhyNot(*context_.graph->FindNode(Name(m))->node, context_.input.size()).empty();
    }
    const double spent = decision_.members[asked_[0].member].cost;
    if (learned_->answers() == nullptr) {
      router::ChoiceGoal rest = decision_.goal;
      if (rest.policy == v1::CHOICE_POLICY_BEST_UNDER) rest.bound -= spent;
      return router::ChooseMember(decision_.members, rest).member;
    }
    return router::ChooseSecond(decision_.members, decision_.goal, *learned_->answers(),
                                asked_[0].member, learned_->answers()->OfAnswer(Given(asked_[0])),
                                spent, decision_.sure)
        .member;
  }

  const std::string& Name(size_t member) const { return choice_.members(static_cast<int>(member)); }

  router::GivenAnswer Given(const Asked& asked) const {
    return {.member = asked.member,
            .answer = asked.normal,
            .output_tokens = asked.answer.usage.completion_tokens(),
            .query_logit = decision_.members[asked.member].logit};
  }

  void Finish() {
    JudgedAnswer result;
    size_t taken = 0;
    std::string reason;
    if (learned_->answers() == nullptr) {
      taken = asked_.size() - 1;
      result.confidence = asked_[taken].normal.empty()
                              ? 0
                              : router::Sigmoid(decision_.members[asked_[taken].member].logit);
      reason = absl::StrFormat("right with %.2f", result.confidence);
    } else if (asked_.size() == 1) {
      result.confidence = router::Sigmoid(learned_->answers()->OfAnswer(Given(asked_[0])));
      reason = absl::StrFormat("the answer is right with %.2f", result.confidence);
    } else {
      const router::AnswerPredictor::Verdict verdict =
          learned_->answers()->OfTwo(Given(asked_[0]), Given(asked_[1]));
      taken = verdict.second ? 1 : 0;
      result.confidence = router::Sigmoid(verdict.logit);
      reason =
          absl::StrFormat("the first is right with %.2f; %s: that of \"%s\" is right with %.2f",
                          router::Sigmoid(learned_->answers()->OfAnswer(Given(asked_[0]))),
                          verdict.agree ? "both agree" : "they differ", Name(asked_[taken].member),
                          result.confidence);
    }
    // An answer without a normal form is better than none.
    if (!asked_[taken].answer.status.ok() && asked_.size() > 1) taken = 1 - taken;
    for (size_t i = 0; i < asked_.size(); ++i) AddBallot(asked_[i], &result);
    Asked& chosen = asked_[taken];
    if (cancelled_) {
      result.status = absl::CancelledError("the choice has been cancelled");
    } else if (!chosen.answer.status.ok()) {
      result.status =
          Annotate(asked_[0].answer.status, absl::StrCat("\"", Name(asked_[0].member), "\""));
      result.confidence = 0;
    } else {
      result.text = std::move(chosen.answer.text);
      result.finish_reason = chosen.answer.finish_reason;
      result.event.set_answer_from(Name(chosen.member));
      result.event.set_reason(reason);
    }
    result.event.set_confidence(result.confidence);
    const JudgedCallback on_done = std::move(on_done_);
    on_done(std::move(result));
  }

  void AddBallot(const Asked& asked, JudgedAnswer* result) const {
    const MemberAnswer& answer = asked.answer;
    router::AddUsage(answer.usage, &result->usage);
    AddSpeculation(answer.speculation, &result->speculation);
    v1::Ballot& ballot = *result->event.add_ballots();
    ballot.set_node(Name(asked.member));
    ballot.set_code(static_cast<int>(answer.status.code()));
    const absl::string_view error = answer.status.message();
    ballot.set_error(SanitizeUtf8({error.data(), error.size()}, kMaxEventBytes));
    ballot.set_answer(SanitizeUtf8(asked.normal, kMaxEventBytes));
    ballot.set_counted(true);
    ballot.set_confidence(answer.measures.mean());
    *ballot.mutable_usage() = answer.usage;
    ballot.set_duration_us(absl::ToInt64Microseconds(answer.duration));
  }

  const v1::ChoiceNode& choice_;
  const std::shared_ptr<const LearnedChoice> learned_;
  ChoiceDecision decision_;
  QueryBudget budget_;  // What is left for this call.
  const JudgingContext context_;
  JudgedCallback on_done_;
  Serializer serializer_;
  std::shared_ptr<ModelCall> call_;
  std::vector<Asked> asked_;
  bool cancelled_ = false;
};

}  // namespace

std::shared_ptr<ModelCall> StartChoice(const NodeRuntime& node, ChoiceDecision decision,
                                       const QueryBudget& budget, JudgingContext context,
                                       JudgedCallback on_done) {
  auto call = std::make_shared<ChoiceCall>(node, std::move(decision), budget, std::move(context),
                                           std::move(on_done));
  call->Start();
  return call;
}

}  // namespace octogate::gateway
