// A sentence encoder behind the worker protocol: it answers Embed, with its own pooling. Generate
// and Score are FAILED_PRECONDITION.
//
// Thread safety: every method may be called from any thread.

#ifndef OCTOGATE_WORKERS_SERVER_ENCODER_SERVICE_H_
#define OCTOGATE_WORKERS_SERVER_ENCODER_SERVICE_H_

#include <atomic>
#include <memory>
#include <string>

#include "workers/encoder/encoder_runner.h"
#include "workers/server/served_model.h"

namespace octogate::workers {

class EncoderService final : public ServedModel {
 public:
  // `name` is what Info calls the model.
  EncoderService(std::string name, std::unique_ptr<LoadedEncoder> model);

  absl::StatusOr<std::shared_ptr<Generation>> Generate(const v1::WorkerGenerateRequest& request,
                                                       absl::Time deadline, OnMessage on_message,
                                                       OnDone on_done) override;
  absl::StatusOr<std::shared_ptr<Generation>> Score(
      const v1::WorkerScoreRequest& request, absl::Time deadline,
      OnResult<v1::WorkerScoreResponse> on_result) override;
  absl::StatusOr<v1::WorkerEmbedResponse> Embed(
      const v1::WorkerEmbedRequest& request, absl::Time deadline,
      const std::shared_ptr<Cancellation>& cancellation) override;
  absl::StatusOr<v1::WorkerExplainCacheResponse> ExplainCache(
      const v1::WorkerExplainCacheRequest& request, absl::Time deadline) override;
  v1::WorkerInfoResponse Info() const override;
  absl::Status Drain(absl::Time deadline) override;
  const std::string& no_gpu() const override { return model_->no_gpu; }
  const WeightReport& weight_report() const override { return model_->encoder->weight_report(); }
  uint64_t memory_bytes() const override;

 private:
  absl::Status EmbedsOnly(const char* what) const;

  const std::string name_;
  const std::unique_ptr<LoadedEncoder> model_;
  const std::string fingerprint_;
  std::atomic<bool> draining_{false};
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_ENCODER_SERVICE_H_
