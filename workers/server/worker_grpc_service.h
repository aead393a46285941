// The Worker service over gRPC: ServedModel behind the callback API.
//
// A slow reader of Generate costs memory for its own answer only: while a write is under
// way, further pieces are merged into one message, which max_tokens bounds.
//
// Thread safety: gRPC calls it from its own threads.

#ifndef OCTOGATE_WORKERS_SERVER_WORKER_GRPC_SERVICE_H_
#define OCTOGATE_WORKERS_SERVER_WORKER_GRPC_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <functional>

#include "octogate/v1/worker.grpc.pb.h"
#include "workers/server/blocking_pool.h"
#include "workers/server/served_model.h"
#include "workers/server/worker_session.h"

namespace octogate::workers {

// The calls of sessions as generations of the model, which outlives it.
class ModelSessionBackend final : public SessionBackend {
 public:
  explicit ModelSessionBackend(ServedModel* model) : model_(model) {}

  absl::StatusOr<std::shared_ptr<Call>> Generate(const v1::WorkerGenerateRequest& request,
                                                 absl::Time deadline, OnMessage on_message,
                                                 OnDone on_done) override;

 private:
  ServedModel* const model_;
};

class WorkerGrpcService final : public v1::Worker::CallbackService {
 public:
  // `model` must outlive the service, the service its server. `on_drain` is called, perhaps more
  // than once, when a Drain call has closed the model to new work.
  WorkerGrpcService(ServedModel* model, std::function<void()> on_drain);

  grpc::ServerWriteReactor<v1::WorkerGenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::WorkerGenerateRequest* request) override;
  grpc::ServerBidiReactor<v1::WorkerSessionRequest, v1::WorkerSessionResponse>* Session(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context,
                                  const v1::WorkerScoreRequest* request,
                                  v1::WorkerScoreResponse* response) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context,
                                  const v1::WorkerEmbedRequest* request,
                                  v1::WorkerEmbedResponse* response) override;
  grpc::ServerUnaryReactor* Info(grpc::CallbackServerContext* context,
                                 const v1::WorkerInfoRequest* request,
                                 v1::WorkerInfoResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const v1::WorkerDrainRequest* request,
                                  v1::WorkerDrainResponse* response) override;
  grpc::ServerUnaryReactor* FlushCache(grpc::CallbackServerContext* context,
                                       const v1::WorkerFlushCacheRequest* request,
                                       v1::WorkerFlushCacheResponse* response) override;
  grpc::ServerUnaryReactor* ExplainCache(grpc::CallbackServerContext* context,
                                         const v1::WorkerExplainCacheRequest* request,
                                         v1::WorkerExplainCacheResponse* response) override;

 private:
  ServedModel* const model_;
  const std::function<void()> on_drain_;
  ModelSessionBackend sessions_;
  BlockingPool blocking_;      // Embed waits for the engine
  BlockingPool flushes_;       // so does FlushCache, which embeddings do not hold up
  BlockingPool explanations_;  // and ExplainCache, which must hold up neither
  BlockingPool long_prompts_;  // of sessions
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_WORKER_GRPC_SERVICE_H_
