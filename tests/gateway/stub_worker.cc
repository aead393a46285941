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

class StubWorker::Reactor final : public grpc::ServerWriteReactor<v1::WorkerGenerateResponse> {
 public:
  Reactor(StubWorker* worker, const v1::WorkerGenerateRequest& request) : worker_(worker) {
    ++worker_->started_;
    ++worker_->running_;
    const auto& messages = request.prompt().conversation().messages();
    const std::string query = messages.empty() ? "" : messages[messages.size() - 1].content();
    script_ = ParseScript(query, worker_->options_.defaults);
    if (script_.echo) {
      const bool has_system = !messages.empty() && messages[0].role() == "system";
      script_.text = (has_system ? messages[0].content() : "") + "|" + query;
      script_.tokens = 1;
    }
    script_.tokens = std::min(script_.tokens, std::max(1, request.max_tokens()));
    if (worker_->draining_) {
      Finish({grpc::StatusCode::UNAVAILABLE, "the worker is draining"});
      return;
    }
    if (script_.first_us > 0) {
      Pause(script_.first_us);
    } else {
      Next();
    }
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      Finish({grpc::StatusCode::CANCELLED, "the client has gone"});
    } else if (script_.delay_us > 0 && sent_ < script_.tokens) {
      Pause(script_.delay_us);
    } else {
      Next();
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
  void Pause(int64_t microseconds) {
    alarm_.Set(std::chrono::system_clock::now() + std::chrono::microseconds(microseconds),
               [this](bool expired) {
                 if (expired) {
                   Next();
                 } else {
                   Finish({grpc::StatusCode::CANCELLED, "cancelled"});
                 }
               });
  }

  void Next() {
    if (script_.fail_after >= 0 && sent_ >= script_.fail_after) {
      Finish({static_cast<grpc::StatusCode>(script_.code), "the script says so"});
      return;
    }
    if (sent_ > script_.tokens || (sent_ == script_.tokens && message_.has_end())) {
      Finish(grpc::Status::OK);
      return;
    }
    message_.Clear();
    if (sent_ < script_.tokens) {
      ++sent_;
      message_.set_text(
          script_.echo
              ? script_.text
              : absl::StrReplaceAll(script_.text,
                                    {{"%", std::to_string(sent_)},
                                     {"@", std::to_string(absl::ToUnixMicros(absl::Now()))}}));
      message_.add_ids(sent_);
      message_.set_logprob_sum(script_.logprob);
    }
    const bool last = sent_ == script_.tokens && script_.fail_after < 0;
    if (last) {
      v1::WorkerGenerateEnd& end = *message_.mutable_end();
      end.set_finish_reason(script_.length ? v1::FINISH_REASON_LENGTH : v1::FINISH_REASON_STOP);
      end.mutable_usage()->set_prompt_tokens(7);
      end.mutable_usage()->set_completion_tokens(sent_);
      StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
    } else {
      StartWrite(&message_);
    }
  }

  StubWorker* const worker_;
  StubScript script_;
  grpc::Alarm alarm_;
  v1::WorkerGenerateResponse message_;
  int sent_ = 0;
};

StubWorker::StubWorker(const StubWorkerOptions& options) : options_(options) {
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
}

grpc::ServerWriteReactor<v1::WorkerGenerateResponse>* StubWorker::Generate(
    grpc::CallbackServerContext*, const v1::WorkerGenerateRequest* request) {
  return new Reactor(this, *request);
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
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace octogate::gateway
