// One loaded model in terms of the worker protocol, without a network: the gRPC worker and the
// gateway's in-process worker are thin layers over it.
//
// Thread safety: every method may be called from any thread. Callbacks hold no lock and must not
// block.

#ifndef OCTOGATE_WORKERS_SERVER_SERVED_MODEL_H_
#define OCTOGATE_WORKERS_SERVER_SERVED_MODEL_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "octogate/v1/worker.pb.h"
#include "workers/engine/page_flush.h"
#include "workers/engine/request.h"
#include "workers/engine/weight_loader.h"

namespace octogate::workers {

class ServedModel {
 public:
  // Longest time that a request without a deadline may take.
  static constexpr absl::Duration kMaxRequestTime = absl::Hours(1);
  static constexpr int kMaxEmbedInputs = 256;
  // Longest time that FlushCache and ExplainCache wait.
  static constexpr absl::Duration kMaxFlushTime = absl::Seconds(10);

  using OnMessage = std::function<void(v1::WorkerGenerateResponse)>;
  using OnDone = std::function<void(const absl::Status&)>;
  template <typename T>
  using OnResult = std::function<void(absl::StatusOr<T>)>;

  virtual ~ServedModel() = default;

  // Starts a generation. After an OK return, `on_message` gets every piece and
  // `on_done` the end, once; messages carry `end` last where the status is OK.
  // An error is returned, and no callback called, for a request that cannot
  // start; FAILED_PRECONDITION where the model does not generate.
  virtual absl::StatusOr<std::shared_ptr<Generation>> Generate(
      const v1::WorkerGenerateRequest& request, absl::Time deadline, OnMessage on_message,
      OnDone on_done) = 0;

  // Starts to score. After an OK return, `on_result` is called once. An error is returned, and
  // `on_result` not called, for a request that cannot start.
  virtual absl::StatusOr<std::shared_ptr<Generation>> Score(
      const v1::WorkerScoreRequest& request, absl::Time deadline,
      OnResult<v1::WorkerScoreResponse> on_result) = 0;

  // Waits for the result; run it on a thread of your own. CANCELLED soon after `cancellation`,
  // which may be null.
  virtual absl::StatusOr<v1::WorkerEmbedResponse> Embed(
      const v1::WorkerEmbedRequest& request, absl::Time deadline,
      const std::shared_ptr<Cancellation>& cancellation) = 0;

  // Without the prefixes.
  virtual v1::WorkerInfoResponse Info() const = 0;
  // What Info says of the prefix cache; nothing where there is none. A model that is never asked
  // keeps no account of it.
  virtual std::optional<v1::PrefixSummary> Prefixes() const { return std::nullopt; }

  // See Worker.FlushCache; a model that keeps nothing has nothing to forget. Waits; run it on a
  // thread of your own. INVALID_ARGUMENT for what is no flush; else as Engine::FlushPages.
  absl::StatusOr<v1::WorkerFlushCacheResponse> FlushCache(
      const v1::WorkerFlushCacheRequest& request, absl::Time deadline);

  // See Worker.ExplainCache; FAILED_PRECONDITION where the model reads no prompts. Waits; run it on
  // a thread of your own.
  virtual absl::StatusOr<v1::WorkerExplainCacheResponse> ExplainCache(
      const v1::WorkerExplainCacheRequest& request, absl::Time deadline) = 0;

  // Refuses new work with UNAVAILABLE and waits for what is under way.
  virtual absl::Status Drain(absl::Time deadline) = 0;

  // Why the CPU serves although a GPU would have been taken; empty otherwise.
  virtual const std::string& no_gpu() const = 0;
  // kernels::Backend::SlowAttention; empty for encoders, which attend within one pass.
  virtual std::string slow_attention() const { return {}; }
  virtual const WeightReport& weight_report() const = 0;
  // Of weights, activations, keys and values, swap space included.
  virtual uint64_t memory_bytes() const = 0;

 protected:
  virtual absl::StatusOr<v1::WorkerFlushCacheResponse> Flush(const PageFlush& flush,
                                                             absl::Time deadline) {
    static_cast<void>(flush), static_cast<void>(deadline);
    return v1::WorkerFlushCacheResponse();
  }
  static absl::Time Bounded(absl::Time deadline) {
    return std::min(deadline, absl::Now() + kMaxRequestTime);
  }
  static ServiceTerms FromProto(const v1::WorkerServiceTerms& proto) {
    return {
        .priority = proto.priority(), .tenant = proto.tenant(), .cache_salt = proto.cache_salt()};
  }
  // INVALID_ARGUMENT for no or too many inputs.
  static absl::Status CheckInputs(const v1::WorkerEmbedRequest& request);
  // Appends `values`, scaled to length 1, to the answer.
  static void AddEmbedding(std::span<const float> values, v1::WorkerEmbedResponse* response);
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_SERVED_MODEL_H_
