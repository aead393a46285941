#ifndef OCTOGATE_ROUTER_CAUSAL_VECTORS_H_
#define OCTOGATE_ROUTER_CAUSAL_VECTORS_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "octogate/v1/graph.pb.h"
#include "router/causal_model.h"
#include "router/embedding_model.h"

namespace octogate::router {

// The prompt of a causal head for a query. `settings` has its defaults.
v1::WorkerPrompt CausalPrompt(const v1::CausalHead& settings, std::string_view query);

// What a language model says after a causal head's prompt, as one vector of a query:
//   - the last hidden state, after the final norm, where the functional token would be written;
//   - where `tokens` of the model's vocabulary are given: the log-probability of each out of the
//     whole vocabulary, then that of all other entries together.
// So whatever learns from vectors of texts (example_embeddings.h) learns from a frozen language
// model.
class CausalVectors final : public EmbeddingModel {
 public:
  // `settings` has its defaults.
  CausalVectors(v1::CausalHead settings, std::vector<std::string> tokens,
                std::shared_ptr<CausalModel> model);

  // Values of a vector that are no hidden state.
  size_t token_values() const { return tokens_.empty() ? 0 : tokens_.size() + 1; }

  struct Reading {
    std::vector<float> vector;
    v1::Usage usage;
  };
  // One pass of the model. FAILED_PRECONDITION where its worker does not know of hidden states,
  // INTERNAL where its answer is malformed; other errors are the model's. `done` as
  // CausalModel::Score.
  void Read(std::string_view query, const CallContext& context,
            std::function<void(absl::StatusOr<Reading>)> done) const;

  // Several at a time, so that the model batches them: few enough not to hold up queries. A text
  // that is too long for the model fails the call, with the text named, whatever cut_long_inputs.
  void Embed(const v1::WorkerEmbedRequest& request, const CallContext& context,
             EmbedDone done) override;

  // Of the model, the prompt and the tokens.
  absl::StatusOr<std::string> Fingerprint(absl::Time deadline) override;

 private:
  struct Batch;

  absl::Status WithoutHiddenState(const absl::Status* why) const;
  static void ReadNext(const std::shared_ptr<Batch>& batch);
  absl::StatusOr<Reading> ToReading(const v1::WorkerScoreResponse& response) const;

  const v1::CausalHead settings_;
  const std::vector<std::string> tokens_;
  const std::shared_ptr<CausalModel> model_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_CAUSAL_VECTORS_H_
