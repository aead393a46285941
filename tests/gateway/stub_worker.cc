#include "tests/gateway/stub_worker.h"

#include <grpcpp/alarm.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string_view>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

namespace octogate::gateway {
namespace {

StubScript ParseScript(const std::string& query, StubScript script) {
  if (query.rfind("stub ", 0) != 0) return script;
  for (const absl::string_view word : absl::StrSplit(query, ' ')) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(word, absl::MaxSplits('=', 1));
    const auto& [key, value] = pair;
    if (key == "tokens") (void)absl::SimpleAtoi(value, &script.tokens);
    if (key == "text") script.text = value;
    if (key == "echo") script.echo = value == "1";
    if (key == "logprob") (void)absl::SimpleAtod(value, &script.logprob);
    if (key == "first_us") (void)absl::SimpleAtoi(value, &script.first_us);
    if (key == "delay_us") (void)absl::SimpleAtoi(value, &script.delay_us);
    if (key == "fail_after") (void)absl::SimpleAtoi(value, &script.fail_after);
    if (key == "code") (void)absl::SimpleAtoi(value, &script.code);
    if (key == "length") script.length = value == "1";
  }
  return script;
}

}  // namespace

// The messages of one answer.
class StubWorker::Answer {
 public:
  Answer(StubWorker& worker, const v1::WorkerGenerateRequest& request) {
    const auto& messages = request.prompt().conversation().messages();
    const std::string query = messages.empty() ? "" : messages[messages.size() - 1].content();
    script_ = ParseScript(query, worker.Begin(request));
    if (script_.echo) {
      const bool has_system = !messages.empty() && messages[0].role() == "system";
      script_.text = (has_system ? messages[0].content() : "") + "|" + query;
      script_.tokens = 1;
    }
    script_.tokens = std::min(script_.tokens, std::max(1, request.max_tokens()));
  }

  // In microseconds before the next message.
  int64_t pause() const {
    if (sent_ == 0) return script_.first_us;
    return sent_ < script_.tokens ? script_.delay_us : 0;
  }

  // OK, and the next message, which has `end` where it is the last one; or how the call fails.
  absl::Status Next(v1::WorkerGenerateResponse* message) {
    if (script_.fail_after >= 0 && sent_ >= script_.fail_after) {
      return absl::Status(static_cast<absl::StatusCode>(script_.code), "the script says so");
    }
    message->Clear();
    if (sent_ < script_.tokens) {
      ++sent_;
      message->set_text(
          script_.echo
              ? script_.text
              : absl::StrReplaceAll(script_.text,
                                    {{"%", std::to_string(sent_)},
                                     {"@", std::to_string(absl::ToUnixMicros(absl::Now()))}}));
      message->add_ids(sent_);
      message->set_logprob_sum(script_.logprob);
    }
    if (sent_ == script_.tokens && script_.fail_after < 0) {
      v1::WorkerGenerateEnd& end = *message->mutable_end();
      end.set_finish_reason(script_.length ? v1::FINISH_REASON_LENGTH : v1::FINISH_REASON_STOP);
      end.mutable_usage()->set_prompt_tokens(7);
      end.mutable_usage()->set_completion_tokens(sent_);
    }
    return absl::OkStatus();
  }

 private:
  StubScript script_;
  int sent_ = 0;
};

class StubWorker::Reactor final : public grpc::ServerWriteReactor<v1::WorkerGenerateResponse> {
 public:
  Reactor(StubWorker* worker, const v1::WorkerGenerateRequest& request)
      : worker_(worker), answer_(*worker, request) {
    ++worker_->started_;
    ++worker_->running_;
    if (worker_->draining_) {
      Finish({grpc::StatusCode::UNAVAILABLE, "the worker is draining"});
      return;
    }
    PauseThenNext();
  }

  void OnWriteDone(bool ok) override {
    if (ok) {
      PauseThenNext();
    } else {
      Finish({grpc::StatusCode::CANCELLED, "the client has gone"});
    }
  }

  void OnCancel() override {
    ++worker_->cancelled_;
    alarm_.Cancel();
  }

  void OnDone() override {
    --worker_->running_;
    delete this;
  }

 private:
  void PauseThenNext() {
    if (answer_.pause() == 0) {
      Next();
      return;
    }
    alarm_.Set(std::chrono::system_clock::now() + std::chrono::microseconds(answer_.pause()),
               [this](bool expired) {
                 if (expired) {
                   Next();
                 } else {
                   Finish({grpc::StatusCode::CANCELLED, "cancelled"});
                 }
               });
  }

  void Next() {
    const absl::Status status = answer_.Next(&message_);
    if (!status.ok()) {
      Finish({static_cast<grpc::StatusCode>(status.code()), std::string(status.message())});
    } else if (message_.has_end()) {
      StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
    } else {
      StartWrite(&message_);
    }
  }

  StubWorker* const worker_;
  Answer answer_;
  grpc::Alarm alarm_;
  v1::WorkerGenerateResponse message_;
};

// A call of a session: a message, and once that has been written, the next one.
class StubWorker::SessionCall final : public workers::SessionBackend::Call,
                                      public std::enable_shared_from_this<SessionCall> {
 public:
  SessionCall(StubWorker* worker, const v1::WorkerGenerateRequest& request,
              workers::SessionBackend::OnMessage on_message,
              workers::SessionBackend::OnDone on_done)
      : worker_(worker),
        answer_(*worker, request),
        on_message_(std::move(on_message)),
        on_done_(std::move(on_done)) {}

  void Start(std::shared_ptr<SessionCall> self) {
    ++worker_->running_;
    self_ = std::move(self);
    PauseThenNext();
  }

  void Cancel() override {
    {
      absl::MutexLock lock(&mutex_);
      if (cancelled_ || state_ == State::kEnded) return;
      cancelled_ = true;
      ++worker_->cancelled_;
      if (state_ == State::kPaused) alarm_.Cancel();
      if (state_ != State::kSending) return;
      state_ = State::kBusy;
    }
    End(absl::CancelledError("cancelled"));
  }

  void OnSent() override {
    {
      absl::MutexLock lock(&mutex_);
      if (state_ != State::kSending) return;
      state_ = State::kBusy;
    }
    PauseThenNext();
  }

 private:
  enum class State { kBusy, kPaused, kSending, kEnded };

  void PauseThenNext() {
    if (answer_.pause() > 0) {
      absl::MutexLock lock(&mutex_);
      if (!cancelled_) {
        state_ = State::kPaused;
        alarm_.Set(std::chrono::system_clock::now() + std::chrono::microseconds(answer_.pause()),
                   [this](bool) { Next(); });
        return;
      }
    }
    Next();
  }

  void Next() {
    // Once the message is on its way, others may end the call before this returns.
    const std::shared_ptr<SessionCall> self = shared_from_this();
    v1::WorkerGenerateResponse message;
    absl::Status status = answer_.Next(&message);
    {
      absl::MutexLock lock(&mutex_);
      if (cancelled_) status = absl::CancelledError("cancelled");
      state_ = status.ok() && !message.has_end() ? State::kSending : State::kBusy;
      if (state_ == State::kBusy) cancelled_ = true;  // It is too late for others to end it.
    }
    const bool last = message.has_end();
    if (status.ok()) on_message_(std::move(message));
    if (!status.ok() || last) End(status);
  }

  void End(const absl::Status& status) {
    {
      absl::MutexLock lock(&mutex_);
      state_ = State::kEnded;
    }
    --worker_->running_;
    const std::shared_ptr<SessionCall> self = std::move(self_);
    on_done_(status);
  }

  StubWorker* const worker_;
  Answer answer_;
  const workers::SessionBackend::OnMessage on_message_;
  const workers::SessionBackend::OnDone on_done_;
  std::shared_ptr<SessionCall> self_;  // until its end
  absl::Mutex mutex_;
  grpc::Alarm alarm_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kBusy;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

StubScript StubWorker::Begin(const v1::WorkerGenerateRequest& request) {
  const std::lock_guard<std::mutex> lock(mutex_);
  last_request_ = request;
  return defaults_;
}

StubWorker::StubWorker(const StubWorkerOptions& options)
    : options_(options), defaults_(options.defaults) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(options.address, grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port_ == 0) {
    std::cerr << "cannot listen on " << options.address << "\n";
    std::abort();
  }
}

StubWorker::~StubWorker() {
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  // Sessions end at once, their calls when they have noticed.
  while (running_ > 0) absl::SleepFor(absl::Milliseconds(1));
}

grpc::ServerWriteReactor<v1::WorkerGenerateResponse>* StubWorker::Generate(
    grpc::CallbackServerContext*, const v1::WorkerGenerateRequest* request) {
  return new Reactor(this, *request);
}

grpc::ServerBidiReactor<v1::WorkerSessionRequest, v1::WorkerSessionResponse>* StubWorker::Session(
    grpc::CallbackServerContext*) {
  ++sessions_;
  return workers::ServeSession(this, &pool_, options_.session_limits);
}

absl::StatusOr<std::shared_ptr<workers::SessionBackend::Call>> StubWorker::Generate(
    const v1::WorkerGenerateRequest& request, absl::Time, OnMessage on_message, OnDone on_done) {
  ++started_;
  if (draining_) return absl::UnavailableError("the worker is draining");
  auto call =
      std::make_shared<SessionCall>(this, request, std::move(on_message), std::move(on_done));
  call->Start(call);
  return call;
}

grpc::ServerUnaryReactor* StubWorker::Score(grpc::CallbackServerContext* context,
                                            const v1::WorkerScoreRequest* request,
                                            v1::WorkerScoreResponse* response) {
  // The first token wins.
  for (int i = 0; i < request->tokens_size(); ++i) response->add_logits(i == 0 ? 2.0F : 0.0F);
  response->set_log_sum_exp(3);
  response->mutable_usage()->set_prompt_tokens(7);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* StubWorker::Embed(grpc::CallbackServerContext* context,
                                            const v1::WorkerEmbedRequest* request,
                                            v1::WorkerEmbedResponse* response) {
  for (int i = 0; i < request->inputs_size(); ++i) {
    v1::Embedding& embedding = *response->add_embeddings();
    embedding.add_values(1);
    embedding.add_values(0);
  }
  response->mutable_usage()->set_prompt_tokens(request->inputs_size());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* StubWorker::Info(grpc::CallbackServerContext* context,
                                           const v1::WorkerInfoRequest*,
                                           v1::WorkerInfoResponse* response) {
  response->set_model(options_.model);
  response->set_family("stub");
  response->set_fingerprint("stub");
  response->set_context_length(2048);
  response->set_parameters(1);
  response->set_running(running_);
  response->set_draining(draining_);
  response->set_backend("none");
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    response->MergeFrom(info_);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

namespace {

// Answers as it has been told to; UNIMPLEMENTED where it has not.
template <typename Response>
grpc::ServerUnaryReactor* AnswerWith(const std::optional<Response>& answer,
                                     grpc::CallbackServerContext* context, Response* response) {
  if (answer) *response = *answer;
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(answer ? grpc::Status::OK : grpc::Status(grpc::StatusCode::UNIMPLEMENTED, ""));
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* StubWorker::FlushCache(grpc::CallbackServerContext* context,
                                                 const v1::WorkerFlushCacheRequest* request,
                                                 v1::WorkerFlushCacheResponse* response) {
  std::optional<v1::WorkerFlushCacheResponse> answer;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    last_flush_ = *request;
    answer = flushed_;
  }
  return AnswerWith(answer, context, response);
}

grpc::ServerUnaryReactor* StubWorker::ExplainCache(grpc::CallbackServerContext* context,
                                                   const v1::WorkerExplainCacheRequest* request,
                                                   v1::WorkerExplainCacheResponse* response) {
  std::optional<v1::WorkerExplainCacheResponse> answer;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    last_question_ = *request;
    answer = explained_;
  }
  return AnswerWith(answer, context, response);
}

}  // namespace octogate::gateway
