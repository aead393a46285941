#ifndef OCTOGATE_TESTS_ROUTER_BAG_OF_WORDS_MODEL_H_
#define OCTOGATE_TESTS_ROUTER_BAG_OF_WORDS_MODEL_H_

#include <atomic>
#include <cmath>
#include <functional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "router/embedding_model.h"

namespace octogate::router {

// Embeds a text by the words in it: texts that share words are near each other. Answers before the
// call returns.
class BagOfWordsModel final : public EmbeddingModel {
 public:
  static constexpr size_t kDimension = 512;

  absl::Status status;  // of every call
  std::string fingerprint = "bag of words";
  std::atomic<int> texts = 0;  // embedded so far
  v1::WorkerEmbedRequest last_request;

  void Embed(const v1::WorkerEmbedRequest& request, const CallContext&, EmbedDone done) override {
    last_request = request;
    if (!status.ok()) return done(status);
    v1::WorkerEmbedResponse response;
    for (const std::string& input : request.inputs()) {
      std::vector<float> values(kDimension, 0);
      std::istringstream words(input);
      for (std::string word; words >> word;)
        values[std::hash<std::string>()(word) % kDimension] += 1;
      float squares = 1e-6F;
      for (const float value : values) squares += value * value;
      v1::Embedding& embedding = *response.add_embeddings();
      for (const float value : values) embedding.add_values(value / std::sqrt(squares));
    }
    texts += request.inputs_size();
    response.mutable_usage()->set_prompt_tokens(5 * request.inputs_size());
    done(std::move(response));
  }
  absl::StatusOr<std::string> Fingerprint(absl::Time) override {
    if (!status.ok()) return status;
    return fingerprint;
  }
};

}  // namespace octogate::router

#endif  // OCTOGATE_TESTS_ROUTER_BAG_OF_WORDS_MODEL_H_
