#ifndef OCTOGATE_ROUTER_EMBEDDING_MODEL_H_
#define OCTOGATE_ROUTER_EMBEDDING_MODEL_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "octogate/v1/worker.pb.h"
#include "router/call_context.h"

// The seam between the encoder head and whatever embeds texts: an encoder in this process or
// workers behind gRPC. The gateway implements it.

namespace octogate::router {

// One model of a graph that embeds. Thread-safe.
class EmbeddingModel {
 public:
  static constexpr int kMaxInputs = 256;

  using EmbedDone = std::function<void(absl::StatusOr<v1::WorkerEmbedResponse>)>;

  virtual ~EmbeddingModel() = default;

  // Embeds at most kMaxInputs texts. Returns without waiting for the model and then calls `done`
  // exactly once, on any thread and with no lock held, at most shortly after the deadline
  // (DEADLINE_EXCEEDED) or the cancellation (CANCELLED).
  virtual void Embed(const v1::WorkerEmbedRequest& request, const CallContext& context,
                     EmbedDone done) = 0;

  // Names the weights: models of equal fingerprints give equal vectors. Called when a graph is
  // applied; may block until `deadline`, and with one that is over answers from what is known.
  // UNAVAILABLE where no replica can say.
  virtual absl::StatusOr<std::string> Fingerprint(absl::Time deadline) = 0;
};

// Finds the models of a graph by name: NOT_FOUND for one that is not there.
using FindEmbeddingModel =
    std::function<absl::StatusOr<std::shared_ptr<EmbeddingModel>>(std::string_view name)>;

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_EMBEDDING_MODEL_H_
