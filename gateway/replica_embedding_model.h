// A graph's model as the router's encoder heads see it.
#ifndef OCTOGATE_GATEWAY_REPLICA_EMBEDDING_MODEL_H_
#define OCTOGATE_GATEWAY_REPLICA_EMBEDDING_MODEL_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "gateway/replica_set.h"
#include "router/embedding_model.h"

namespace octogate::gateway {

// What a replica says of itself. Asks again until one answers, for some seconds or until
// `deadline`; then UNAVAILABLE, with `needed_by` in the message.
absl::StatusOr<v1::WorkerInfoResponse> AwaitInfo(ReplicaSet& replicas, std::string_view needed_by,
                                                 absl::Time deadline);

class ReplicaEmbeddingModel final : public router::EmbeddingModel {
 public:
  explicit ReplicaEmbeddingModel(std::shared_ptr<ReplicaSet> replicas)
      : replicas_(std::move(replicas)) {}

  void Embed(const v1::WorkerEmbedRequest& request, const router::CallContext& context,
             EmbedDone done) override;
  absl::StatusOr<std::string> Fingerprint(absl::Time deadline) override;

 private:
  const std::shared_ptr<ReplicaSet> replicas_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_REPLICA_EMBEDDING_MODEL_H_
