#include "gateway/judging/vote_call.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/utf8.h"
#include "gateway/judging/answer_form.h"
#include "gateway/judging/expected_accuracy.h"
#include "gateway/judging/member_call.h"
#include "gateway/judging/tally.h"
#include "gateway/node_generation.h"
#include "gateway/serializer.h"
#include "gateway/speculation_usage.h"
#include "router/usage.h"

namespace octogate::gateway {
namespace {

// Of texts inside an event.

class VoteCall final : public ModelCall, public std::enable_shared_from_this<VoteCall> {
 public:
  VoteCall(const v1::VoteNode& vote, JudgingContext context, JudgedCallback on_done)
      : vote_(vote), context_(std::move(context)), on_done_(std::move(on_done)) {
    for (const std::string& member : vote.members()) {
      for (int sample = 0; sample < vote.samples(); ++sample) {
        ballots_.push_back({.node = context_.graph->FindNode(member), .sample = sample});
      }
    }
    parallel_ =
        vote.parallel() > 0 ? std::min<size_t>(vote.parallel(), ballots_.size()) : ballots_.size();
  }

  void Start() {
    serializer_.Run([self = shared_from_this()] { self->StartWave(); });
  }

  void Cancel() override {
    serializer_.Run([self = shared_from_this()] {
      self->cancelled_ = true;
      self->CancelCalls();
    });
  }

  void Resume() override {}

 private:
  struct RunningBallot {
    const NodeRuntime* node;
    int sample;
    std::shared_ptr<ModelCall> call;
    bool done = false;
    MemberAnswer answer;
  };

  // All that follows runs in serializer_.
  void StartWave() {
    const size_t end = std::min(started_ + parallel_, ballots_.size());
    const auto waves =
        static_cast<int64_t>((ballots_.size() - started_ + parallel_ - 1) / parallel_);
    const absl::Time now = absl::Now();
    const absl::Time deadline = now + (context_.deadline - now) / waves;
    running_ = end - started_;
    for (; started_ < end; ++started_) StartBallot(started_, deadline);
  }

  void StartBallot(size_t i, absl::Time deadline) {
    RunningBallot& ballot = ballots_[i];
    const v1::Node& node = *ballot.node->node;
    const auto done = [self = shared_from_this(), i](MemberAnswer answer) {
      self->serializer_.Run([self, i, answer = std::move(answer)]() mutable {
        self->OnBallot(i, std::move(answer));
      });
    };
    if (context_.drained->Contains(node.name())) {
      done({.status =
                absl::UnavailableError(absl::StrCat("node \"", node.name(), "\" is draining"))});
      return;
    }
    auto request = WorkerRequest(*ballot.node, *context_.request, context_.input, context_.links);
    if (!request.ok()) {
      done({.status = request.status()});
      return;
    }
    v1::WorkerGenerateRequest& worker_request = **request;
    worker_request.set_top_logprobs(0);
    if (ballot.sample > 0 && worker_request.sampling().has_seed()) {
      worker_request.mutable_sampling()->set_seed(worker_request.sampling().seed() +
                                                  static_cast<uint64_t>(ballot.sample));
    }
    ballot.call = StartMemberCall(*ballot.node, *std::move(request), deadline, done);
  }

  void OnBallot(size_t i, MemberAnswer answer) {
    ballots_[i].call = nullptr;
    ballots_[i].done = true;
    ballots_[i].answer = std::move(answer);
    --running_;
    if (!settled_ && !cancelled_) {
      tally_ = CountDone();
      settled_ = tally_.settled;
      if (settled_) CancelCalls();
    }
    if (running_ > 0) return;
    if (settled_ || cancelled_) {
      Finish();
    } else {
      StartWave();
    }
  }

  void CancelCalls() {
    for (const RunningBallot& ballot : ballots_) {
      if (ballot.call != nullptr) ballot.call->Cancel();
    }
  }

  // Of the ballots before the first that is not done.
  Tally CountDone() const {
    std::vector<Ballot> done;
    for (size_t i = 0; i < ballots_.size() && ballots_[i].done; ++i) {
      const MemberAnswer& answer = ballots_[i].answer;
      const bool by_accuracy = vote_.weight() == v1::VOTE_WEIGHT_EXPECTED_ACCURACY;
      done.push_back(
          {.answer = answer.status.ok() ? NormalizeAnswer(answer.text, vote_.same()) : "",
           .weight = by_accuracy ? ExpectedAccuracy(*ballots_[i].node->node,
                                                    answer.usage.completion_tokens())
                                 : 1.0});
    }
    return Count(done, static_cast<int>(ballots_.size()),
                 {.votes = vote_.enough(), .weight = vote_.sure()});
  }

  void Finish() {
    JudgedAnswer result;
    int chosen = tally_.winner;
    for (size_t i = 0; i < started_; ++i) {
      const MemberAnswer& answer = ballots_[i].answer;
      router::AddUsage(answer.usage, &result.usage);
      AddSpeculation(answer.speculation, &result.speculation);
      const bool counted = static_cast<int>(i) < tally_.counted;
      if (chosen < 0 && counted && answer.status.ok()) chosen = static_cast<int>(i);
      AddEvent(ballots_[i], counted, &result.event);
    }
    if (cancelled_) {
      result.status = absl::CancelledError("the vote has been cancelled");
    } else if (chosen < 0) {
      result.status = Annotate(ballots_[0].answer.status,
                               absl::StrCat("none of ", ballots_.size(), " answers came; \"",
                                            ballots_[0].node->node->name(), "\""));
    } else {
      MemberAnswer& answer = ballots_[chosen].answer;
      result.confidence = tally_.winner < 0 ? 0 : tally_.share;
      result.text = std::move(answer.text);
      result.finish_reason = answer.finish_reason;
      result.event.set_answer_from(ballots_[chosen].node->node->name());
      result.event.set_reason(
          absl::StrFormat("share %.2f of %d answers", result.confidence, tally_.counted));
    }
    result.event.set_confidence(result.confidence);
    const JudgedCallback on_done = std::move(on_done_);
    on_done(std::move(result));
  }

  void AddEvent(const RunningBallot& ballot, bool counted, v1::Judged* event) const {
    const MemberAnswer& answer = ballot.answer;
    v1::Ballot& entry = *event->add_ballots();
    entry = BallotOf(*ballot.node, answer);
    entry.set_sample(ballot.sample);
    entry.set_answer(answer.status.ok()
                         ? SanitizeUtf8(NormalizeAnswer(answer.text, vote_.same()), kMaxEventBytes)
                         : "");
    entry.set_counted(counted);
  }

  const v1::VoteNode& vote_;
  const JudgingContext context_;
  JudgedCallback on_done_;
  size_t parallel_ = 1;
  Serializer serializer_;
  std::vector<RunningBallot> ballots_;
  size_t started_ = 0;
  size_t running_ = 0;
  Tally tally_;
  bool settled_ = false;
  bool cancelled_ = false;
};

}  // namespace

std::shared_ptr<ModelCall> StartVote(const v1::VoteNode& vote, JudgingContext context,
                                     JudgedCallback on_done) {
  auto call = std::make_shared<VoteCall>(vote, std::move(context), std::move(on_done));
  call->Start();
  return call;
}

}  // namespace octogate::gateway
