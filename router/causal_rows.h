#ifndef OCTOGATE_ROUTER_CAUSAL_ROWS_H_
#define OCTOGATE_ROUTER_CAUSAL_ROWS_H_

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "router/calibration.h"
#include "router/example_embeddings.h"
#include "router/routing_examples.h"
#include "router/softmax_regression.h"
#include "router/softmax_row.h"

namespace octogate::router {

// Rows of functional tokens on the last hidden state of a frozen language model, as if they were
// appended to its output matrix (Octopus v2, arXiv 2404.01744, section 3.2, trains the model with
// them; here nothing else is trained). Vectors are those of CausalVectors.
//
//   logit of a token in the vocabulary = its log-probability by the model; that row stays as it is
//   logit of another token             = row * x + bias
//   logit of "none"                    = log-probability of the rest of the vocabulary, or, where
//                                        no token is in it, a row as well
//
// x is the hidden state, centred and scaled by what it is on the built-in queries
// (background_queries.h): a fixed affine map, so that a row is one on the hidden state, too. It
// does not depend on the graph's examples.
//
// Rows of classes with examples are trained together; further ones are learned one at a time, which
// leaves the logits of all others and the temperature as they are, bit by bit.
//
// Training and learning take, beside the vectors, two more times the memory of their hidden states
// and at most kMaxHeldOutLogits logits; ExampleEmbeddings bounds the vectors. Nothing grows with
// texts times classes.
//
// Immutable and thread-safe; depends on the examples and their vectors alone.
class CausalRows {
 public:
  // In `native`, of a class without a token in the vocabulary.
  static constexpr int kNoToken = -1;
  // Texts that count as "none" in training, but are closer than this to an example (cosine of x),
  // are left out.
  static constexpr double kOnSubject = 0.6;

  // `native` has, of each class, its place among the tokens of the vectors, of which there are
  // `token_values` - 1, or none. `vectors` has one of each of EmbeddingClassifier::TextsOf(
  // examples). Errors as TrainSoftmax.
  static absl::StatusOr<std::shared_ptr<const CausalRows>> Train(std::vector<int> native,
                                                                 size_t token_values,
                                                                 const RoutingExamples& examples,
                                                                 const ExampleEmbeddings& vectors,
                                                                 absl::Time deadline);

  using Row = std::shared_ptr<const LinearRow>;

  // As EmbeddingClassifier::Learn.
  static absl::StatusOr<std::shared_ptr<const CausalRows>> Learn(
      const CausalRows& trained, const RoutingExamples& examples, const LearnedClasses& learned,
      const ExampleEmbeddings& vectors, absl::Time deadline, std::vector<Row>* rows);

  // Of each class, then of "none", before the temperature. `vector` has dimension() values.
  std::vector<float> Logits(std::span<const float> vector) const;
  void Score(std::span<const float> vector, const std::vector<bool>& live,
             HeadScores* scores) const;

  size_t dimension() const { return hidden_ + token_values_; }
  double temperature() const { return temperature_; }

 private:
  CausalRows() = default;

  // x of a vector, as the trainer takes it.
  void AppendPoint(const float* vector, SparseRows* points) const;
  // Logits of the trained classes, then of "none", with `model` in place of model_.
  std::vector<float> LogitsBy(const LinearModel& model, const float* vector,
                              const SparseRows::Entry* point) const;
  // What is added to the logit of a trained class, or of "none" behind them: what the model says
  // itself.
  float FixedLogit(const float* vector, size_t place) const;

  size_t hidden_ = 0;
  size_t token_values_ = 0;
  std::vector<float> centre_;  // Of each value of the hidden state.
  std::vector<float> scale_;
  std::vector<int> native_;  // Of each trained class.
  LinearModel model_;        // Of the trained classes and "none".
  double temperature_ = 1;
  // What was learned: the rows side by side, and where each class's logit comes from; empty where
  // the trained classes are all there are.
  LinearModel learned_;
  std::vector<ClassColumns> columns_;
  AddRowsFunction add_rows_ = nullptr;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_CAUSAL_ROWS_H_
