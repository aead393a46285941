#include "workers/server/worker_grpc_service.h"

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/cancellation.h"
#include "common/grpc_status.h"
#include "common/status.h"
#include "workers/server/generate_response.h"

namespace octogate::workers {
namespace {

constexpr int kBlockingThreads = 4;
constexpr size_t kMaxBlockingCalls = 64;
constexpr int kFlushThreads = 1;
constexpr size_t kMaxFlushes = 16;
constexpr int kExplanationThreads = 1;
constexpr size_t kMaxExplanations = 16;
constexpr int kLongPromptThreads = 2;
constexpr size_t kMaxLongPrompts = 256;
constexpr absl::Duration kEmbedRetryAfter = absl::Milliseconds(100);

// A unary call whose answer comes later. Owns itself: gone when gRPC is done with it, which is
// after Answer and not before the handler has returned it.
template <typename Response>
class UnaryReactor final : public grpc::ServerUnaryReactor {
 public:
  UnaryReactor(grpc::CallbackServerContext* context, Response* response)
      : context_(context), response_(response) {}

  // Once.
  void Answer(absl::StatusOr<Response> result) {
    if (result.ok()) {
      *response_ = *std::move(result);
    } else {
      AddRetryHint(result.status(), context_);
    }
    Finish(ToGrpcStatus(result.status()));
  }

  // To be called by the handler: the client's cancellation becomes the generation's.
  void CancelsWith(std::shared_ptr<Generation> generation) {
    registration_ =
        cancellation_->OnCancel([generation = std::move(generation)] { generation->Cancel(); });
  }

  const std::shared_ptr<Cancellation>& cancellation() const { return cancellation_; }

  void OnCancel() override { cancellation_->Cancel(); }
  void OnDone() override { delete this; }

 private:
  grpc::CallbackServerContext* const context_;
  Response* const response_;
  const std::shared_ptr<Cancellation> cancellation_ = std::make_shared<Cancellation>();
  Cancellation::Registration registration_;
};

// One answer on its way to its reader. The engine's thread adds pieces, gRPC's
// threads report writes; whoever finds no write under way starts the next one.
//
// The engine's callbacks and gRPC each hold a reference, so it lives until both
// are done with it.
class GenerateReactor final : public grpc::ServerWriteReactor<v1::WorkerGenerateResponse>,
                              public std::enable_shared_from_this<GenerateReactor> {
 public:
  explicit GenerateReactor(grpc::CallbackServerContext* context) : context_(context) {}

  void Start(ServedModel& model, const v1::WorkerGenerateRequest& request) {
    self_ = shared_from_this();
    auto generation = model.Generate(
        request, DeadlineOf(*context_),
        [self = self_](v1::WorkerGenerateResponse message) { self->Add(std::move(message)); },
        [self = self_](const absl::Status& status) { self->End(status); });
    if (!generation.ok()) return End(generation.status());
    bool cancelled;
    {
      absl::MutexLock lock(&mutex_);
      generation_ = *generation;
      cancelled = cancelled_;
    }
    if (cancelled) (*generation)->Cancel();
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      if (!ok) broken_ = true;
    }
    if (!ok) Cancel();
    Advance();
  }

  void OnCancel() override { Cancel(); }
  void OnDone() override { self_.reset(); }

 private:
  void Add(v1::WorkerGenerateResponse message) {
    {
      absl::MutexLock lock(&mutex_);
      if (has_pending_) {
        MergeResponse(std::move(message), pending_);
      } else {
        pending_ = std::move(message);
        has_pending_ = true;
      }
    }
    Advance();
  }

  void End(const absl::Status& status) {
    {
      absl::MutexLock lock(&mutex_);
      ended_ = true;
      status_ = status;
    }
    Advance();
  }

  void Cancel() {
    std::shared_ptr<Generation> generation;
    {
      absl::MutexLock lock(&mutex_);
      cancelled_ = true;
      generation = generation_;
    }
    if (generation != nullptr) generation->Cancel();
  }

  // Starts the next operation, if one is due and none is under way.
  void Advance() {
    enum { kNothing, kWrite, kFinish } next = kNothing;
    absl::Status status;
    {
      absl::MutexLock lock(&mutex_);
      if (writing_ || finished_) return;
      if (has_pending_ && !broken_) {
        current_ = std::move(pending_);
        pending_.Clear();
        has_pending_ = false;
        writing_ = true;
        next = kWrite;
      } else if (ended_) {
        finished_ = true;
        status = status_;
        next = kFinish;
      }
    }
    // Only the thread that set writing_ or finished_ gets here with it.
    if (next == kWrite) StartWrite(&current_);
    if (next == kFinish) {
      AddRetryHint(status, context_);
      Finish(ToGrpcStatus(status));
    }
  }

  grpc::CallbackServerContext* const context_;
  std::shared_ptr<GenerateReactor> self_;  // gRPC's reference
  v1::WorkerGenerateResponse current_;     // owned by the write under way

  absl::Mutex mutex_;
  v1::WorkerGenerateResponse pending_ ABSL_GUARDED_BY(mutex_);
  bool has_pending_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;  // the reader is gone
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Generation> generation_ ABSL_GUARDED_BY(mutex_);
};

class SessionCall final : public SessionBackend::Call {
 public:
  explicit SessionCall(std::shared_ptr<Generation> generation)
      : generation_(std::move(generation)) {}
  void Cancel() override { generation_->Cancel(); }

 private:
  const std::shared_ptr<Generation> generation_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<SessionBackend::Call>> ModelSessionBackend::Generate(
    const v1::WorkerGenerateRequest& request, absl::Time deadline, OnMessage on_message,
    OnDone on_done) {
  auto generation = model_->Generate(request, deadline, std::move(on_message), std::move(on_done));
  if (!generation.ok()) return generation.status();
  return std::make_shared<SessionCall>(*std::move(generation));
}

WorkerGrpcService::WorkerGrpcService(ServedModel* model, std::function<void()> on_drain)
    : model_(model),
      on_drain_(std::move(on_drain)),
      sessions_(model),
      blocking_(kBlockingThreads, kMaxBlockingCalls),
      flushes_(kFlushThreads, kMaxFlushes),
      explanations_(kExplanationThreads, kMaxExplanations),
      long_prompts_(kLongPromptThreads, kMaxLongPrompts) {}

grpc::ServerWriteReactor<v1::WorkerGenerateResponse>* WorkerGrpcService::Generate(
    grpc::CallbackServerContext* context, const v1::WorkerGenerateRequest* request) {
  auto reactor = std::make_shared<GenerateReactor>(context);
  reactor->Start(*model_, *request);
  return reactor.get();
}

grpc::ServerBidiReactor<v1::WorkerSessionRequest, v1::WorkerSessionResponse>*
WorkerGrpcService::Session(grpc::CallbackServerContext*) {
  return ServeSession(&sessions_, &long_prompts_);
}

grpc::ServerUnaryReactor* WorkerGrpcService::Score(grpc::CallbackServerContext* context,
                                                   const v1::WorkerScoreRequest* request,
                                                   v1::WorkerScoreResponse* response) {
  auto* reactor = new UnaryReactor<v1::WorkerScoreResponse>(context, response);
  auto generation = model_->Score(*request, DeadlineOf(*context),
                                  [reactor](absl::StatusOr<v1::WorkerScoreResponse> result) {
                                    reactor->Answer(std::move(result));
                                  });
  if (generation.ok()) {
    reactor->CancelsWith(*std::move(generation));
  } else {
    reactor->Answer(generation.status());
  }
  return reactor;
}

grpc::ServerUnaryReactor* WorkerGrpcService::Embed(grpc::CallbackServerContext* context,
                                                   const v1::WorkerEmbedRequest* request,
                                                   v1::WorkerEmbedResponse* response) {
  auto* reactor = new UnaryReactor<v1::WorkerEmbedResponse>(context, response);
  const bool accepted = blocking_.Submit([this, reactor, request, deadline = DeadlineOf(*context)] {
    reactor->Answer(model_->Embed(*request, deadline, reactor->cancellation()));
  });
  if (!accepted) {
    reactor->Answer(WithRetryAfter(
        absl::ResourceExhaustedError(absl::StrCat("the queue is full: ", kMaxBlockingCalls,
                                                  " embedding calls wait already")),
        kEmbedRetryAfter));
  }
  return reactor;
}

grpc::ServerUnaryReactor* WorkerGrpcService::Info(grpc::CallbackServerContext* context,
                                                  const v1::WorkerInfoRequest*,
                                                  v1::WorkerInfoResponse* response) {
  *response = model_->Info();
  if (std::optional<v1::PrefixSummary> prefixes = model_->Prefixes()) {
    *response->mutable_prefixes() = *std::move(prefixes);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* WorkerGrpcService::Drain(grpc::CallbackServerContext* context,
                                                   const v1::WorkerDrainRequest*,
                                                   v1::WorkerDrainResponse* response) {
  // A deadline in the past: refuse new work from now on, do not wait.
  model_->Drain(absl::InfinitePast()).IgnoreError();
  on_drain_();
  const v1::WorkerInfoResponse info = model_->Info();
  response->set_running(info.running() + info.waiting());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* WorkerGrpcService::FlushCache(grpc::CallbackServerContext* context,
                                                        const v1::WorkerFlushCacheRequest* request,
                                                        v1::WorkerFlushCacheResponse* response) {
  auto* reactor = new UnaryReactor<v1::WorkerFlushCacheResponse>(context, response);
  const bool accepted = flushes_.Submit([this, reactor, request, deadline = DeadlineOf(*context)] {
    reactor->Answer(model_->FlushCache(*request, deadline));
  });
  if (!accepted) {
    reactor->Answer(absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", kMaxFlushes, " flushes wait already")));
  }
  return reactor;
}

grpc::ServerUnaryReactor* WorkerGrpcService::ExplainCache(
    grpc::CallbackServerContext* context, const v1::WorkerExplainCacheRequest* request,
    v1::WorkerExplainCacheResponse* response) {
  auto* reactor = new UnaryReactor<v1::WorkerExplainCacheResponse>(context, response);
  const bool accepted =
      explanations_.Submit([this, reactor, request, deadline = DeadlineOf(*context)] {
        reactor->Answer(model_->ExplainCache(*request, deadline));
      });
  if (!accepted) {
    reactor->Answer(absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", kMaxExplanations, " explanations wait already")));
  }
  return reactor;
}

}  // namespace octogate::workers
