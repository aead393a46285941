#ifndef OCTOGATE_ROUTER_MANY_EMBEDDING_MODEL_H_
#define OCTOGATE_ROUTER_MANY_EMBEDDING_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "retrieval/vector_index.h"
#include "router/calibration.h"
#include "router/candidate_softmax.h"
#include "router/example_embeddings.h"
#include "router/routing_examples.h"
#include "router/softmax_regression.h"

namespace octogate::router {

// What an EmbeddingClassifier is of kManyClasses classes and more. The classes whose examples' mean
// is nearest to a vector are found in an index (vector_index.h), and the rows of weights of those
// and of "none" are multiplied with it (candidate_softmax.h).
//
// The index compares all means, one dot product for each class. Its graph would look at fewer, but
// of ten thousand means in 384 dimensions it missed so many of the nearest that decisions got
// worse.
//
// Immutable and thread-safe once trained; the result depends on settings, examples and their
// vectors alone. A vector without length finds no class.
class ManyEmbeddingModel {
 public:
  // Errors as EmbeddingClassifier::Train.
  static absl::StatusOr<std::shared_ptr<const ManyEmbeddingModel>> Train(
      const SoftmaxTraining& training, const RoutingExamples& examples,
      const ExampleEmbeddings& embeddings, absl::Time deadline);

  // As EmbeddingClassifier::Score.
  void Score(std::span<const float> vector, const std::vector<bool>& live,
             HeadScores* scores) const;

  // Of all classes, then of "none".
  std::vector<float> Logits(std::span<const float> vector) const;

  double temperature() const { return temperature_; }
  // Of memory.
  size_t bytes() const;

 private:
  ManyEmbeddingModel() = default;

  float Logit(size_t row, std::span<const float> vector) const;
  // The classes whose means are nearest, at most kCandidates and those that `live` rules out.
  std::vector<retrieval::VectorHit> FindNearest(std::span<const float> vector,
                                                const std::vector<bool>& live) const;
  void ScoreThese(const std::vector<retrieval::VectorHit>& nearest, std::span<const float> vector,
                  const std::vector<bool>& live, HeadScores* scores) const;

  size_t classes_ = 0;  // Without "none".
  size_t dimension_ = 0;
  std::unique_ptr<retrieval::VectorIndex> means_;  // By class.
  std::vector<float> weights_;                     // Of each class, then of "none".
  std::vector<float> bias_;
  double temperature_ = 1;
  double coverage_ = 1;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_MANY_EMBEDDING_MODEL_H_
