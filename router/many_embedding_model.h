#ifndef OCTOGATE_ROUTER_MANY_EMBEDDING_MODEL_H_
#define OCTOGATE_ROUTER_MANY_EMBEDDING_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "retrieval/coded_rows.h"
#include "router/calibration.h"
#include "router/candidate_softmax.h"
#include "router/class_places.h"
#include "router/example_embeddings.h"
#include "router/routing_examples.h"
#include "router/softmax_regression.h"
#include "router/softmax_row.h"

namespace octogate::router {

// What an EmbeddingClassifier is of kManyClasses classes and more. The classes whose examples' mean
// is nearest to a vector are found by codes of one bit a value (coded_rows.h), and the rows of
// weights of those and of "none" are multiplied with it (candidate_softmax.h).
//
// A graph over the means (HNSW) would look at fewer of them, but of ten thousand means in 384
// dimensions it missed so many of the nearest that decisions got worse.
//
// A trained model can learn further classes, which leaves all rows that it has as they are, and
// shares them: what that costs does not depend on how many there are. Every decision looks at all
// that were learned afterwards.
//
// Immutable and thread-safe once trained; the result depends on settings, examples and their
// vectors alone. A vector without length finds no class.
class ManyEmbeddingModel {
 public:
  // Errors as EmbeddingClassifier::Train.
  static absl::StatusOr<std::shared_ptr<const ManyEmbeddingModel>> Train(
      const SoftmaxTraining& training, const RoutingExamples& examples,
      const ExampleEmbeddings& embeddings, absl::Time deadline);

  // As EmbeddingClassifier::Learn. `trained` has learned nothing yet. A class is told apart from
  // those whose examples look most like its own.
  static absl::StatusOr<std::shared_ptr<const ManyEmbeddingModel>> Learn(
      const ManyEmbeddingModel& trained, const SoftmaxTraining& training,
      const RoutingExamples& examples, const LearnedClasses& learned,
      const ExampleEmbeddings& embeddings, absl::Time deadline,
      std::vector<std::shared_ptr<const LinearRow>>* rows);

  // As EmbeddingClassifier::Score.
  void Score(std::span<const float> vector, const std::vector<bool>& live,
             HeadScores* scores) const;

  // Of all classes, then of "none".
  std::vector<float> Logits(std::span<const float> vector) const;

  double temperature() const { return trained_->temperature; }
  // Of memory; what models share counts for each.
  size_t bytes() const;

 private:
  // What training leaves behind.
  struct Trained {
    size_t classes = 0;  // Without "none".
    size_t dimension = 0;
    retrieval::CodedRows means;        // Of unit length; of classes without examples there is none.
    std::vector<uint32_t> mean_class;  // Of each of them.
    std::vector<float> weights;        // Of each class, then of "none".
    std::vector<float> bias;
    double temperature = 1;
    double coverage = 1;

    float Logit(size_t row, std::span<const float> vector) const;
  };
  // What a class learned afterwards, on top of what was trained.
  struct Learned {
    size_t place = 0;         // Of the class; places_.classes for "none".
    std::vector<float> mean;  // Empty of "none".
    std::shared_ptr<const LinearRow> row;
  };
  struct Near {
    uint32_t place = 0;
    float similarity = 0;
  };

  explicit ManyEmbeddingModel(ClassPlaces places) : places_(std::move(places)) {}

  // The means of the classes' selected vectors, of unit length; an empty one of a class without.
  static std::vector<std::vector<float>> MeansOf(const std::vector<const float*>& vectors,
                                                 const std::vector<int>& labels,
                                                 const std::vector<uint32_t>& selected,
                                                 size_t classes, size_t dimension);

  // Fits learned.rows[r] on top of this model, which has those before it. `mean` is that of the
  // texts of a new class; empty for others.
  absl::StatusOr<LinearRow> FitRow(const RoutingExamples& examples, const LearnedClasses& learned,
                                   size_t r, std::span<const float> mean,
                                   const ExampleEmbeddings& embeddings, RowTraining training,
                                   absl::Time deadline) const;
  // How far a class is above what a decision would weigh it against.
  float MarginOf(size_t fitted, std::span<const float> vector) const;

  float Logit(size_t place, std::span<const float> vector) const;
  // The classes whose means are nearest, the nearest first: at most kCandidates and as many as
  // `live` rules out.
  std::vector<Near> FindNearest(std::span<const float> vector, const std::vector<bool>& live) const;

  ClassPlaces places_;
  std::shared_ptr<const Trained> trained_;
  std::vector<Learned> learned_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_MANY_EMBEDDING_MODEL_H_
