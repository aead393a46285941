#include "gateway/judging/verify_call.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/strings.h"
#include "common/utf8.h"
#include "gateway/judging/answer_form.h"
#include "gateway/judging/member_call.h"
#include "gateway/judging/vote_call.h"
#include "gateway/node_generation.h"
#include "gateway/serializer.h"
#include "gateway/speculation_usage.h"
#include "router/node_bounds.h"
#include "router/plan.h"
#include "router/usage.h"

namespace octogate::gateway {
namespace {

constexpr size_t kMaxPromptBytes = size_t{2} << 20;

class VerifyCall final : public ModelCall, public std::enable_shared_from_this<VerifyCall> {
 public:
  VerifyCall(const v1::VerifyNode& verify, JudgingContext context, JudgedCallback on_done)
      : verify_(verify),
        context_(std::move(context)),
        answerer_(*context_.graph->FindNode(verify.answer())),
        judge_(*context_.graph->FindNode(verify.judge())),
        on_done_(std::move(on_done)) {}

  void Start() {
    serializer_.Run([self = shared_from_this()] { self->StartAnswer(); });
  }

  void Cancel() override {
    serializer_.Run([self = shared_from_this()] {
      self->cancelled_ = true;
      if (self->call_ != nullptr) self->call_->Cancel();
    });
  }

  void Resume() override {}

 private:
  // All that follows runs in serializer_.
  void StartAnswer() {
    const absl::Time now = absl::Now();
    const absl::Time deadline = now + (context_.deadline - now) / 2;
    if (context_.drained->Contains(verify_.answer())) {
      result_.status =
          absl::UnavailableError(absl::StrCat("node \"", verify_.answer(), "\" is draining"));
      Finish();
      return;
    }
    if (answerer_.node->has_vote()) {
      JudgingContext context = context_;
      context.deadline = deadline;
      call_ = StartVote(answerer_.node->vote(), std::move(context),
                        [self = shared_from_this()](JudgedAnswer answer) {
                          self->serializer_.Run([self, answer = std::move(answer)]() mutable {
                            self->result_ = std::move(answer);
                            self->OnAnswer();
                          });
                        });
      return;
    }
    auto request = WorkerRequest(answerer_, *context_.request, context_.input, context_.links);
    if (!request.ok()) {
      OnMember({.status = request.status()});
      return;
    }
    (*request)->set_top_logprobs(0);
    call_ = StartMemberCall(
        answerer_, *std::move(request), deadline, [self = shared_from_this()](MemberAnswer answer) {
          self->serializer_.Run(
              [self, answer = std::move(answer)]() mutable { self->OnMember(std::move(answer)); });
        });
  }

  void OnMember(MemberAnswer answer) {
    AddBallot(answerer_, answer);
    result_.status = Annotate(answer.status, absl::StrCat("\"", verify_.answer(), "\""));
    result_.text = std::move(answer.text);
    result_.finish_reason = answer.finish_reason;
    result_.event.set_answer_from(verify_.answer());
    OnAnswer();
  }

  void OnAnswer() {
    call_ = nullptr;
    result_.confidence = 0;
    if (!result_.status.ok() || cancelled_) {
      Finish();
      return;
    }
    if (context_.drained->Contains(verify_.judge())) {
      reason_ = absl::StrCat("the judge \"", verify_.judge(), "\" is draining");
      Finish();
      return;
    }
    v1::Edge prompt;
    prompt.set_input(verify_.prompt());
    const std::string input = router::RenderEdgeInput(prompt, {.query = context_.query,
                                                               .input = context_.input,
                                                               .output = result_.text,
                                                               .max_bytes = kMaxPromptBytes});
    if (input.size() > kMaxPromptBytes) {
      reason_ = absl::StrCat("the judge's input would have ", input.size(), " bytes, more than ",
                             kMaxPromptBytes);
      Finish();
      return;
    }
    // The judge sees the prompt alone, not the conversation, and is nobody's answer to sample.
    v1::GenerateRequest alone;
    alone.add_messages()->set_role("user");
    alone.set_tenant(context_.request->tenant());
    auto request = WorkerRequest(judge_, alone, input, context_.links);
    if (!request.ok()) {
      OnJudgement({.status = request.status()});
      return;
    }
    (*request)->set_top_logprobs(verify_.judgement() == v1::JUDGEMENT_PROBABILITY ? 1 : 0);
    call_ = StartMemberCall(judge_, *std::move(request), context_.deadline,
                            [self = shared_from_this()](MemberAnswer answer) {
                              self->serializer_.Run([self, answer = std::move(answer)]() mutable {
                                self->OnJudgement(answer);
                              });
                            });
  }

  void OnJudgement(const MemberAnswer& answer) {
    call_ = nullptr;
    AddBallot(judge_, answer);
    if (!answer.status.ok()) {
      reason_ = absl::StrCat("the judge \"", verify_.judge(), "\" failed");
    } else if (const auto confidence = ReadJudgement(answer.text, verify_.judgement(),
                                                     std::exp(answer.first_logprob))) {
      result_.confidence = *confidence;
      reason_ = absl::StrFormat("\"%s\" says %.3g", verify_.judge(), *confidence);
    } else {
      reason_ = absl::StrCat("the judge \"", verify_.judge(),
                             "\" says nothing that counts: ", Quoted(answer.text));
    }
    Finish();
  }

  void AddBallot(const NodeRuntime& node, const MemberAnswer& answer) {
    router::AddUsage(answer.usage, &result_.usage);
    AddSpeculation(answer.speculation, &result_.speculation);
    v1::Ballot& ballot = *result_.event.add_ballots();
    ballot = BallotOf(node, answer);
    ballot.set_counted(true);
  }

  void Finish() {
    if (cancelled_) result_.status = absl::CancelledError("the verification has been cancelled");
    result_.event.set_confidence(result_.confidence);
    result_.event.set_reason(SanitizeUtf8(reason_, kMaxEventBytes));
    const JudgedCallback on_done = std::move(on_done_);
    on_done(std::move(result_));
  }

  const v1::VerifyNode& verify_;
  const JudgingContext context_;
  const NodeRuntime& answerer_;
  const NodeRuntime& judge_;
  JudgedCallback on_done_;
  Serializer serializer_;
  std::shared_ptr<ModelCall> call_;
  JudgedAnswer result_;
  std::string reason_;
  bool cancelled_ = false;
};

}  // namespace

std::optional<double> ReadJudgement(std::string_view answer, v1::Judgement judgement,
                                    double first_probability) {
  if (judgement == v1::JUDGEMENT_SCORE) {
    double score = 0;
    const std::string number = NormalizeAnswer(answer, v1::ANSWER_FORM_NUMBER);
    if (number.empty() || !absl::SimpleAtod(number, &score)) return std::nullopt;
    return score >= 0 && score <= 1 ? std::optional<double>(score) : std::nullopt;
  }
  size_t begin = 0;
  while (begin < answer.size() && !absl::ascii_isalpha(static_cast<unsigned char>(answer[begin]))) {
    ++begin;
  }
  size_t end = begin;
  while (end < answer.size() && absl::ascii_isalpha(static_cast<unsigned char>(answer[end]))) ++end;
  const std::string word = absl::AsciiStrToLower(ToAbsl(answer.substr(begin, end - begin)));
  if (word != "yes" && word != "no") return std::nullopt;
  const bool yes = word == "yes";
  if (judgement != v1::JUDGEMENT_PROBABILITY) return yes ? 1.0 : 0.0;
  if (!(first_probability >= 0 && first_probability <= 1)) return std::nullopt;
  return yes ? first_probability : 1 - first_probability;
}

std::shared_ptr<ModelCall> StartVerification(const v1::VerifyNode& verify, JudgingContext context,
                                             JudgedCallback on_done) {
  auto call = std::make_shared<VerifyCall>(verify, std::move(context), std::move(on_done));
  call->Start();
  return call;
}

}  // namespace octogate::gateway
