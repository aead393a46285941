// A language model behind the worker protocol.
//
// Thread safety: every method may be called from any thread. Callbacks come on
// the engine's thread.

#ifndef OCTOGATE_WORKERS_SERVER_MODEL_SERVICE_H_
#define OCTOGATE_WORKERS_SERVER_MODEL_SERVICE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "octogate/v1/worker.pb.h"
#include "workers/engine/model_runner.h"
#include "workers/server/grammar_cache.h"
#include "workers/server/prompt_encoder.h"
#include "workers/server/served_model.h"
#include "workers/server/served_prefixes.h"

namespace octogate::workers {

class ModelService final : public ServedModel {
 public:
  // `name` is what Info calls the model.
  ModelService(std::string name, std::unique_ptr<LoadedModel> model);

  // An error is returned, and no callback called, as Engine::Submit and PromptEncoder::Encode say.
  // A request with a grammar that has to be compiled starts when that is done; what is wrong with
  // it then comes to `on_done`: GrammarCache::Get's errors, and Engine::Submit's.
  absl::StatusOr<std::shared_ptr<Generation>> Generate(const v1::WorkerGenerateRequest& request,
                                                       absl::Time deadline, OnMessage on_message,
                                                       OnDone on_done) override;
  absl::StatusOr<std::shared_ptr<Generation>> Score(
      const v1::WorkerScoreRequest& request, absl::Time deadline,
      OnResult<v1::WorkerScoreResponse> on_result) override;
  absl::StatusOr<v1::WorkerEmbedResponse> Embed(
      const v1::WorkerEmbedRequest& request, absl::Time deadline,
      const std::shared_ptr<Cancellation>& cancellation) override;
  v1::WorkerInfoResponse Info() const override;
  std::optional<v1::PrefixSummary> Prefixes() const override;
  absl::StatusOr<v1::WorkerExplainCacheResponse> ExplainCache(
      const v1::WorkerExplainCacheRequest& request, absl::Time deadline) override;
  absl::Status Drain(absl::Time deadline) override;
  const std::string& no_gpu() const override { return model_->no_gpu; }
  std::string slow_attention() const override { return model_->engine->slow_attention(); }
  const WeightReport& weight_report() const override { return model_->engine->weight_report(); }
  uint64_t memory_bytes() const override;

  const LoadedModel& model() const { return *model_; }
  const GrammarCache& grammars() const { return grammars_; }

 private:
  absl::StatusOr<v1::WorkerFlushCacheResponse> Flush(const PageFlush& flush,
                                                     absl::Time deadline) override;
  // UNAVAILABLE while draining.
  absl::Status CheckOpen() const;
  // Has what the engine says of the prompt's pages remembered, where anybody asks for it. Empty
  // where nobody does.
  std::function<void(const GenerateEvent&)> RememberPrefix(const v1::WorkerPrompt& prompt,
                                                           const v1::WorkerServiceTerms& terms,
                                                           GenerateRequest* generation) const;

  const std::string name_;
  const std::unique_ptr<LoadedModel> model_;
  const std::string fingerprint_;
  const PromptEncoder encoder_;
  const std::shared_ptr<ServedPrefixes> prefixes_;  // null where requests share no pages
  std::atomic<bool> draining_{false};
  GrammarCache grammars_;  // last: what waits for a grammar uses everything above
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_MODEL_SERVICE_H_
