// A graph's model as the router's causal heads see it.
#ifndef OCTOGATE_GATEWAY_REPLICA_CAUSAL_MODEL_H_
#define OCTOGATE_GATEWAY_REPLICA_CAUSAL_MODEL_H_

#include <memory>
#include <string>
#include <vector>

#include "gateway/replica_set.h"
#include "router/causal_model.h"

namespace octogate::gateway {

class ReplicaCausalModel final : public router::CausalModel {
 public:
  explicit ReplicaCausalModel(std::shared_ptr<ReplicaSet> replicas)
      : replicas_(std::move(replicas)) {}

  void Score(const v1::WorkerScoreRequest& request, const router::CallContext& context,
             ScoreDone done) override;
  void Generate(const v1::WorkerGenerateRequest& request, const router::CallContext& context,
                OnMessage on_message, GenerateDone done) override;
  absl::StatusOr<std::vector<std::string>> MissingTokens(const std::vector<std::string>& tokens,
                                                         absl::Time deadline) override;
  absl::StatusOr<std::string> Fingerprint(absl::Time deadline) override;

 private:
  const std::shared_ptr<ReplicaSet> replicas_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_REPLICA_CAUSAL_MODEL_H_
