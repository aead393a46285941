#ifndef OCTOGATE_ROUTER_CAUSAL_MODEL_H_
#define OCTOGATE_ROUTER_CAUSAL_MODEL_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "octogate/v1/worker.pb.h"
#include "router/call_context.h"

// The seam between the causal head and whatever runs its language model: an engine in this process
// or workers behind gRPC. The gateway implements it.

namespace octogate::router {

// One language model of a graph. Thread-safe. Every call returns without waiting for the model and
// then calls `done` exactly once, on any thread and with no lock held, at most shortly after the
// deadline (DEADLINE_EXCEEDED) or the cancellation (CANCELLED).
class CausalModel {
 public:
  using ScoreDone = std::function<void(absl::StatusOr<v1::WorkerScoreResponse>)>;
  // Calls for one generation follow one another.
  using OnMessage = std::function<void(const v1::WorkerGenerateResponse&)>;
  using GenerateDone = std::function<void(absl::Status)>;

  virtual ~CausalModel() = default;

  virtual void Score(const v1::WorkerScoreRequest& request, const CallContext& context,
                     ScoreDone done) = 0;

  // `done` gets OK after the message that has `end`.
  virtual void Generate(const v1::WorkerGenerateRequest& request, const CallContext& context,
                        OnMessage on_message, GenerateDone done) = 0;

  // Which of `tokens` are not one entry of the model's vocabulary. Called when a graph is applied;
  // may block until `deadline`. UNAVAILABLE where no replica can say.
  virtual absl::StatusOr<std::vector<std::string>> MissingTokens(
      const std::vector<std::string>& tokens, absl::Time deadline) = 0;

  // Names the weights and how they are kept: models of equal fingerprints give equal hidden states.
  // Called as MissingTokens.
  virtual absl::StatusOr<std::string> Fingerprint(absl::Time deadline) = 0;
};

// Finds the models of a graph by name: NOT_FOUND for one that is not there.
using FindCausalModel =
    std::function<absl::StatusOr<std::shared_ptr<CausalModel>>(std::string_view name)>;

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_CAUSAL_MODEL_H_
