#include "gateway/replay/replay_client.h"

#include <grpcpp/alarm.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

constexpr int64_t kTokensPerMessage = 256;
// exp of it is 0, and sums of it stay numbers.
constexpr double kLowestLogprob = -1000;

// The end of the first `count` of `total` equal parts of the text, at the end of a character.
size_t PartEnd(const std::string& text, int64_t count, int64_t total) {
  if (count >= total) return text.size();
  // At most 4 MiB times 1,000,000.
  size_t end = text.size() * static_cast<size_t>(count) / static_cast<size_t>(total);
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
  return end;
}

// One answer under way. Also the alarm's owner, so it keeps itself alive while the alarm is set.
class ReplayCall final : public ModelCall, public std::enable_shared_from_this<ReplayCall> {
 public:
  ReplayCall(std::shared_ptr<const Recording> recording, const RecordedAnswer* answer,
             int top_logprobs, absl::Time deadline, ModelClient::MessageCallback on_message,
             ModelClient::DoneCallback on_done)
      : recording_(std::move(recording)),
        answer_(answer),
        top_logprobs_(top_logprobs),
        deadline_(deadline),
        on_message_(std::move(on_message)),
        on_done_(std::move(on_done)) {}

  void Cancel() override {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    // The alarm's completion follows.
    if (waiting_) alarm_.Cancel();
  }

  void Resume() override {
    {
      absl::MutexLock lock(&mutex_);
      if (!paused_) return;
      paused_ = false;
      if (sending_) return;
      sending_ = true;
    }
    Send();
  }

  void StartAt(absl::Time time, EventLoops* loops) {
    hold_ = std::make_unique<EventLoops::Hold>(loops);
    self_ = shared_from_this();
    absl::MutexLock lock(&mutex_);
    waiting_ = true;
    alarm_.Set(loops->queue(loops->Pick()), absl::ToChronoTime(std::min(time, deadline_)), &woken_);
  }

  void Start() {
    {
      absl::MutexLock lock(&mutex_);
      sending_ = true;
    }
    Send();
  }

 private:
  void OnAlarm(bool) {
    const std::shared_ptr<ReplayCall> self = std::move(self_);
    const std::unique_ptr<EventLoops::Hold> hold = std::move(hold_);
    {
      absl::MutexLock lock(&mutex_);
      waiting_ = false;
    }
    Start();
  }

  // Sends until the end or a pause; the only one to do so at a time.
  void Send() {
    for (;;) {
      {
        absl::MutexLock lock(&mutex_);
        if (paused_ && !cancelled_) {
          sending_ = false;
          return;
        }
        if (cancelled_ || absl::Now() >= deadline_) {
          sent_ = answer_->output_tokens;
          over_ = cancelled_ ? absl::CancelledError("the call has been cancelled")
                             : absl::DeadlineExceededError("the time of the call is over");
        }
      }
      if (!over_.ok() || sent_ == answer_->output_tokens) break;
      v1::WorkerGenerateResponse message;
      Fill(&message);
      if (on_message_(message) == Flow::kPause && sent_ < answer_->output_tokens) {
        absl::MutexLock lock(&mutex_);
        paused_ = true;
      }
    }
    const ModelClient::DoneCallback done = std::move(on_done_);
    on_message_ = nullptr;
    if (done != nullptr) done(over_);
  }

  void Fill(v1::WorkerGenerateResponse* message) {
    const int64_t begin = sent_;
    sent_ = std::min(answer_->output_tokens, begin + kTokensPerMessage);
    const size_t text_begin = PartEnd(answer_->text, begin, answer_->output_tokens);
    const size_t text_end = PartEnd(answer_->text, sent_, answer_->output_tokens);
    message->set_text(answer_->text.substr(text_begin, text_end - text_begin));
    const double logprob = answer_->confidence > 0
                               ? std::max(std::log(answer_->confidence), kLowestLogprob)
                               : kLowestLogprob;
    for (int64_t i = begin; i < sent_; ++i) {
      message->add_ids(static_cast<int32_t>(i));
      if (top_logprobs_ == 0) continue;
      v1::TokenLogprob& entry = *message->add_logprobs();
      entry.set_id(static_cast<int32_t>(i));
      entry.set_logprob(logprob);
    }
    message->set_logprob_sum(logprob * static_cast<double>(sent_ - begin));
    if (sent_ < answer_->output_tokens) return;
    v1::WorkerGenerateEnd& end = *message->mutable_end();
    end.set_finish_reason(v1::FINISH_REASON_STOP);
    end.mutable_usage()->set_prompt_tokens(answer_->input_tokens);
    end.mutable_usage()->set_completion_tokens(answer_->output_tokens);
  }

  const std::shared_ptr<const Recording> recording_;
  const RecordedAnswer* const answer_;
  const int top_logprobs_;
  const absl::Time deadline_;
  // Of whoever sends.
  ModelClient::MessageCallback on_message_;
  ModelClient::DoneCallback on_done_;
  int64_t sent_ = 0;
  absl::Status over_;

  absl::Mutex mutex_;
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
  bool sending_ ABSL_GUARDED_BY(mutex_) = false;
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<EventLoops::Hold> hold_;
  std::shared_ptr<ReplayCall> self_;  // while the alarm is set
  grpc::Alarm alarm_;
  Completion woken_ = CompletionFor<&ReplayCall::OnAlarm>(this);
};

class NoCall final : public ModelCall {
 public:
  void Cancel() override {}
  void Resume() override {}
};

class ReplayClient final : public ModelClient {
 public:
  ReplayClient(std::shared_ptr<const Recording> recording, bool keep_time, EventLoops* loops)
      : recording_(std::move(recording)), keep_time_(keep_time), loops_(loops) {}

  std::shared_ptr<ModelCall> Generate(const v1::WorkerGenerateRequest& request, absl::Time deadline,
                                      MessageCallback on_message, DoneCallback on_done) override {
    const auto& messages = request.prompt().conversation().messages();
    const std::string query = messages.empty() ? "" : messages[messages.size() - 1].content();
    const RecordedAnswer* const answer = recording_->Find(query);
    if (answer == nullptr) {
      on_done(absl::NotFoundError(absl::StrCat("the recording ", Quoted(recording_->name()),
                                               " has no answer to the query ", Quoted(query))));
      return std::make_shared<NoCall>();
    }
    auto call = std::make_shared<ReplayCall>(recording_, answer, request.top_logprobs(), deadline,
                                             std::move(on_message), std::move(on_done));
    if (keep_time_ && answer->latency > absl::ZeroDuration()) {
      call->StartAt(absl::Now() + answer->latency, loops_);
    } else {
      call->Start();
    }
    return call;
  }

  std::shared_ptr<ModelCall> Score(const v1::WorkerScoreRequest&, absl::Time,
                                   ResponseCallback<v1::WorkerScoreResponse> on_done) override {
    on_done(absl::UnimplementedError("a recording scores nothing"));
    return std::make_shared<NoCall>();
  }

  std::shared_ptr<ModelCall> Embed(const v1::WorkerEmbedRequest&, absl::Time,
                                   ResponseCallback<v1::WorkerEmbedResponse> on_done) override {
    on_done(absl::UnimplementedError("a recording embeds nothing"));
    return std::make_shared<NoCall>();
  }

  std::shared_ptr<ModelCall> Info(absl::Time,
                                  ResponseCallback<v1::WorkerInfoResponse> on_done) override {
    v1::WorkerInfoResponse info;
    info.set_model(recording_->name());
    info.set_family("replay");
    on_done(std::move(info));
    return std::make_shared<NoCall>();
  }

  std::shared_ptr<ModelCall> FlushCache(
      const v1::WorkerFlushCacheRequest&, absl::Time,
      ResponseCallback<v1::WorkerFlushCacheResponse> on_done) override {
    on_done(v1::WorkerFlushCacheResponse());
    return std::make_shared<NoCall>();
  }

  std::shared_ptr<ModelCall> ExplainCache(
      const v1::WorkerExplainCacheRequest&, absl::Time,
      ResponseCallback<v1::WorkerExplainCacheResponse> on_done) override {
    on_done(absl::FailedPreconditionError("a recording keeps no pages"));
    return std::make_shared<NoCall>();
  }

  const std::string& address() const override { return address_; }

 private:
  const std::shared_ptr<const Recording> recording_;
  const bool keep_time_;
  EventLoops* const loops_;
  const std::string address_ = "replay";
};

}  // namespace

std::unique_ptr<ModelClient> NewReplayClient(std::shared_ptr<const Recording> recording,
                                             bool keep_time, EventLoops* loops) {
  return std::make_unique<ReplayClient>(std::move(recording), keep_time, loops);
}

}  // namespace octogate::gateway
