// Serves one loaded model in terms of the worker protocol, without a network:
// the gRPC worker and the gateway's in-process worker are thin layers over it.
//
// Thread safety: every method may be called from any thread. Callbacks come on
// the engine's thread, hold no lock and must not block.

#ifndef OCTOGATE_WORKERS_SERVER_MODEL_SERVICE_H_
#define OCTOGATE_WORKERS_SERVER_MODEL_SERVICE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "octogate/v1/worker.pb.h"
#include "workers/engine/model_runner.h"
#include "workers/server/prompt_encoder.h"

namespace octogate::workers {

class ModelService {
 public:
  // Longest time that a request without a deadline may take.
  static constexpr absl::Duration kMaxRequestTime = absl::Hours(1);
  static constexpr int kMaxEmbedInputs = 256;

  using OnMessage = std::function<void(v1::WorkerGenerateResponse)>;
  using OnDone = std::function<void(const absl::Status&)>;
  template <typename T>
  using OnResult = std::function<void(absl::StatusOr<T>)>;

  // `name` is what Info calls the model.
  ModelService(std::string name, std::unique_ptr<LoadedModel> model);

  // Starts a generation. After an OK return, `on_message` gets every piece and
  // `on_done` the end, once; messages carry `end` last where the status is OK.
  // An error is returned, and no callback called, for a request that cannot
  // start (see Engine::Submit and PromptEncoder::Encode).
  absl::StatusOr<std::shared_ptr<Generation>> Generate(const v1::WorkerGenerateRequest& request,
                                                       absl::Time deadline, OnMessage on_message,
                                                       OnDone on_done);

  // Starts to score. After an OK return, `on_result` is called once. An error is returned, and
  // `on_result` not called, for a request that cannot start.
  absl::StatusOr<std::shared_ptr<Generation>> Score(const v1::WorkerScoreRequest& request,
                                                    absl::Time deadline,
                                                    OnResult<v1::WorkerScoreResponse> on_result);

  // Waits for the result; run it on a thread of your own. CANCELLED soon after `cancellation`,
  // which may be null.
  absl::StatusOr<v1::WorkerEmbedResponse> Embed(const v1::WorkerEmbedRequest& request,
                                                absl::Time deadline,
                                                const std::shared_ptr<Cancellation>& cancellation);

  v1::WorkerInfoResponse Info() const;

  // Refuses new work with UNAVAILABLE and waits for what is under way.
  absl::Status Drain(absl::Time deadline);

  const LoadedModel& model() const { return *model_; }

 private:
  const std::string name_;
  const std::unique_ptr<LoadedModel> model_;
  const std::string fingerprint_;
  const PromptEncoder encoder_;
  std::atomic<bool> draining_{false};
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_MODEL_SERVICE_H_
