#include "workers/server/worker_grpc_service.h"

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "workers/server/grpc_status.h"

namespace octogate::workers {
namespace {

constexpr int kBlockingThreads = 4;
constexpr size_t kMaxBlockingCalls = 64;

void Merge(v1::WorkerGenerateResponse from, v1::WorkerGenerateResponse& into) {
  into.mutable_text()->append(from.text());
  into.mutable_ids()->MergeFrom(from.ids());
  into.mutable_logprobs()->MergeFrom(from.logprobs());
  into.set_logprob_sum(into.logprob_sum() + from.logprob_sum());
  if (from.has_end()) into.mutable_end()->Swap(from.mutable_end());
}

// One answer on its way to its reader. The engine's thread adds pieces, gRPC's
// threads report writes; whoever finds no write under way starts the next one.
//
// The engine's callbacks and gRPC each hold a reference, so it lives until both
// are done with it.
class GenerateReactor final : public grpc::ServerWriteReactor<v1::WorkerGenerateResponse>,
                              public std::enable_shared_from_this<GenerateReactor> {
 public:
  void Start(ModelService& model, const v1::WorkerGenerateRequest& request, absl::Time deadline) {
    self_ = shared_from_this();
    auto generation = model.Generate(
        request, deadline,
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
        Merge(std::move(message), pending_);
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
    grpc::Status status;
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
        status = ToGrpc(status_);
        next = kFinish;
      }
    }
    // Only the thread that set writing_ or finished_ gets here with it.
    if (next == kWrite) StartWrite(&current_);
    if (next == kFinish) Finish(status);
  }

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

}  // namespace

WorkerGrpcService::WorkerGrpcService(ModelService* model)
    : model_(model), blocking_(kBlockingThreads, kMaxBlockingCalls) {}

grpc::ServerWriteReactor<v1::WorkerGenerateResponse>* WorkerGrpcService::Generate(
    grpc::CallbackServerContext* context, const v1::WorkerGenerateRequest* request) {
  auto reactor = std::make_shared<GenerateReactor>();
  reactor->Start(*model_, *request, DeadlineOf(*context));
  return reactor.get();
}

grpc::ServerUnaryReactor* WorkerGrpcService::Score(grpc::CallbackServerContext* context,
                                                   const v1::WorkerScoreRequest* request,
                                                   v1::WorkerScoreResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  model_->Score(*request, DeadlineOf(*context),
                [reactor, response](absl::StatusOr<v1::WorkerScoreResponse> result) {
                  if (result.ok()) *response = *std::move(result);
                  reactor->Finish(ToGrpc(result.status()));
                });
  return reactor;
}

grpc::ServerUnaryReactor* WorkerGrpcService::Embed(grpc::CallbackServerContext* context,
                                                   const v1::WorkerEmbedRequest* request,
                                                   v1::WorkerEmbedResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Time deadline = DeadlineOf(*context);
  const bool accepted = blocking_.Submit([this, reactor, request, response, deadline] {
    auto result = model_->Embed(*request, deadline);
    if (result.ok()) *response = *std::move(result);
    reactor->Finish(ToGrpc(result.status()));
  });
  if (!accepted) {
    reactor->Finish({grpc::StatusCode::RESOURCE_EXHAUSTED,
                     "too many embedding calls under way; try again in a moment"});
  }
  return reactor;
}

grpc::ServerUnaryReactor* WorkerGrpcService::Info(grpc::CallbackServerContext* context,
                                                  const v1::WorkerInfoRequest*,
                                                  v1::WorkerInfoResponse* response) {
  *response = model_->Info();
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* WorkerGrpcService::Drain(grpc::CallbackServerContext* context,
                                                   const v1::WorkerDrainRequest*,
                                                   v1::WorkerDrainResponse* response) {
  // A deadline in the past: refuse new work from now on, do not wait.
  model_->Drain(absl::InfinitePast()).IgnoreError();
  const v1::WorkerInfoResponse info = model_->Info();
  response->set_running(info.running() + info.waiting());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace octogate::workers
