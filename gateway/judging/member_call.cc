#include "gateway/judging/member_call.h"

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/strings.h"
#include "common/utf8.h"
#include "gateway/judging/judged_answer.h"
#include "gateway/node_generation.h"

namespace octogate::gateway {
namespace {

class MemberCall final : public ModelCall, public std::enable_shared_from_this<MemberCall> {
 public:
  MemberCall(const NodeRuntime& node, std::function<void(MemberAnswer)> on_done)
      : node_(node), counters_(node.counters), on_done_(std::move(on_done)) {}

  void Start(std::shared_ptr<const v1::WorkerGenerateRequest> request, absl::Time deadline) {
    counters_->queries.fetch_add(1, std::memory_order_relaxed);
    counters_->in_flight.fetch_add(1, std::memory_order_relaxed);
    const std::shared_ptr<MemberCall> self = shared_from_this();
    std::shared_ptr<ModelCall> call = StartGeneration(
        node_, std::move(request), deadline, [](const std::string&) {},
        [self](v1::WorkerGenerateResponse& message) { return self->OnMessage(message); },
        [self](const absl::Status& status) { self->OnDone(status); });
    bool cancelled = false;
    {
      absl::MutexLock lock(&mutex_);
      if (done_) return;
      call_ = call;
      cancelled = cancelled_;
    }
    if (cancelled) call->Cancel();
  }

  void Cancel() override {
    std::shared_ptr<ModelCall> call;
    {
      absl::MutexLock lock(&mutex_);
      cancelled_ = true;
      call = call_;
    }
    if (call != nullptr) call->Cancel();
  }

  void Resume() override {}

 private:
  // Messages come one after the other, and OnDone last.
  Flow OnMessage(v1::WorkerGenerateResponse& message) {
    if (!too_long_.ok()) return Flow::kContinue;
    if (answer_.measures.tokens() == 0 && message.logprobs_size() > 0) {
      answer_.first_logprob = message.logprobs(0).logprob();
    }
    answer_.measures.Add(message);
    answer_.text += message.text();
    if (message.has_end()) {
      answer_.usage = message.end().usage();
      if (message.end().has_speculation()) answer_.speculation = message.end().speculation();
      answer_.finish_reason = message.end().finish_reason();
    }
    if (answer_.text.size() > kMaxMemberAnswerBytes) {
      too_long_ = absl::ResourceExhaustedError(
          absl::StrCat("the answer is longer than ", kMaxMemberAnswerBytes, " bytes"));
      Cancel();
    }
    return Flow::kContinue;
  }

  void OnDone(const absl::Status& status) {
    {
      absl::MutexLock lock(&mutex_);
      done_ = true;
      call_ = nullptr;
    }
    answer_.status = too_long_.ok() ? status : too_long_;
    if (!answer_.status.ok()) answer_.usage.set_completion_tokens(answer_.measures.tokens());
    answer_.duration = absl::Now() - started_;
    counters_->in_flight.fetch_sub(1, std::memory_order_relaxed);
    if (answer_.status.ok()) counters_->answers.Add(answer_.duration);
    if (!answer_.status.ok() && !absl::IsCancelled(answer_.status)) {
      counters_->errors.fetch_add(1, std::memory_order_relaxed);
    }
    const std::function<void(MemberAnswer)> on_done = std::move(on_done_);
    on_done(std::move(answer_));
  }

  const NodeRuntime& node_;
  const std::shared_ptr<NodeCounters> counters_;
  std::function<void(MemberAnswer)> on_done_;
  const absl::Time started_ = absl::Now();
  MemberAnswer answer_;
  absl::Status too_long_;

  absl::Mutex mutex_;
  std::shared_ptr<ModelCall> call_ ABSL_GUARDED_BY(mutex_);
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

v1::Ballot BallotOf(const NodeRuntime& node, const MemberAnswer& answer) {
  v1::Ballot ballot;
  ballot.set_node(node.node->name());
  ballot.set_code(static_cast<int>(answer.status.code()));
  ballot.set_error(SanitizeUtf8(ToStd(answer.status.message()), kMaxEventBytes));
  ballot.set_answer(SanitizeUtf8(answer.text, kMaxEventBytes));
  ballot.set_confidence(answer.measures.mean());
  *ballot.mutable_usage() = answer.usage;
  ballot.set_duration_us(absl::ToInt64Microseconds(answer.duration));
  return ballot;
}

std::shared_ptr<ModelCall> StartMemberCall(const NodeRuntime& node,
                                           std::shared_ptr<const v1::WorkerGenerateRequest> request,
                                           absl::Time deadline,
                                           std::function<void(MemberAnswer)> on_done) {
  auto call = std::make_shared<MemberCall>(node, std::move(on_done));
  call->Start(std::move(request), deadline);
  return call;
}

}  // namespace octogate::gateway
