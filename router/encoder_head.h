#ifndef OCTOGATE_ROUTER_ENCODER_HEAD_H_
#define OCTOGATE_ROUTER_ENCODER_HEAD_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "octogate/v1/gateway.pb.h"
#include "octogate/v1/graph.pb.h"
#include "router/calibration.h"
#include "router/embedding_model.h"
#include "router/example_embeddings.h"
#include "router/routing_examples.h"
#include "router/softmax_regression.h"
#include "router/softmax_row.h"

namespace octogate::router {

class ManyEmbeddingModel;

// Scores classes of vectors: a linear softmax and a temperature, with a class "none" that is
// learned from generic texts, as in the lexical head (lexical_head.h).
//
// A class that has many examples may have several rows of weights, each learned from those that are
// near one another, and is as probable as its rows together: "science" is not one direction but
// physics here and biology there. Whether classes are divided is decided by what makes held-out
// examples more probable.
//
// A trained classifier can learn further classes, one at a time, which leaves the logits of all
// others and the temperature as they are, bit by bit.
//
// With kManyClasses classes and more it is a ManyEmbeddingModel (many_embedding_model.h).
//
// Immutable and thread-safe once trained; the result depends on settings, examples and their
// vectors alone.
class EmbeddingClassifier {
 public:
  // A background text that is as close as this to an example (cosine) is on a class's subject, and
  // does not count as "none".
  static constexpr double kOnSubject = 0.6;

  // At least so many examples are there for each row of a class that is divided, and more where
  // examples are so many that there would be more than kMaxRows rows beside each class's first.
  static constexpr size_t kExamplesPerRow = 60;
  static constexpr size_t kMaxRows = 512;
  static constexpr size_t kMaxRowsOfClass = 32;

  // The texts that a classifier with these examples is trained on, "none" included.
  static std::vector<std::string_view> TextsOf(const RoutingExamples& examples);

  // `embeddings` has a vector for each of TextsOf(examples). `settings` has its defaults. Errors as
  // LexicalHead::Train.
  static absl::StatusOr<std::shared_ptr<const EmbeddingClassifier>> Train(
      const v1::EncoderHead& settings, const RoutingExamples& examples,
      const ExampleEmbeddings& embeddings, absl::Time deadline);

  // Weights of the columns that Learn has added.
  using Row = std::shared_ptr<const LinearRow>;

  // `trained`, which was trained with `settings` on `examples`, with `learned.rows` added in their
  // order: each is fitted to tell its texts from all those before it. `rows` has those that have
  // been fitted before and null for others, which are set; one that was fitted differs in nothing
  // from one that was kept. `embeddings` has a vector for each text. DEADLINE_EXCEEDED as
  // TrainSoftmax.
  static absl::StatusOr<std::shared_ptr<const EmbeddingClassifier>> Learn(
      const EmbeddingClassifier& trained, const v1::EncoderHead& settings,
      const RoutingExamples& examples, const LearnedClasses& learned,
      const ExampleEmbeddings& embeddings, absl::Time deadline, std::vector<Row>* rows);

  // Of each class, then of "none", before the temperature.
  std::vector<float> Logits(std::span<const float> vector) const;

  // `vector` has dimension() values.
  void Score(std::span<const float> vector, const std::vector<bool>& live,
             HeadScores* scores) const;

  size_t dimension() const { return dimension_; }
  double temperature() const { return temperature_; }
  // Whether a class has several rows.
  bool is_divided() const { return !first_row_.empty(); }

 private:
  EmbeddingClassifier() = default;

  struct Lessons;  // What it is trained on.

  static SoftmaxTraining TrainingOf(const v1::EncoderHead& settings);
  // Of each text the class's row that it teaches, where classes are divided; the rows of class c
  // are [first_row[c], first_row[c + 1]), "none" the last class. Empty where no class has enough
  // examples for two.
  static absl::Status Divide(const Lessons& lessons, uint64_t seed, absl::Time deadline,
                             std::vector<int>* row_of, std::vector<size_t>* first_row);

  size_t dimension_ = 0;
  std::shared_ptr<const ManyEmbeddingModel>
      many_;  // Null with few classes; else there is no model.
  LinearModel model_;
  // Of the model's first columns, those of class c are [first_row_[c], first_row_[c + 1]), "none"
  // the last class. Empty where each class has one.
  std::vector<size_t> first_row_;
  // Of each class, then of "none"; empty where they are the model's columns, in this order, those
  // of one class taken together.
  std::vector<ClassColumns> columns_;
  double temperature_ = 1;
  AddRowsFunction add_rows_ = nullptr;
};

class EncoderEnsemble;

// A sentence encoder's vector of the query, classified. Immutable and thread-safe; must be owned by
// a shared_ptr.
class EncoderHead : public std::enable_shared_from_this<EncoderHead> {
 public:
  struct Scores : HeadScores {
    v1::Usage usage;
  };

  EncoderHead(std::shared_ptr<const EmbeddingClassifier> classifier,
              std::shared_ptr<EmbeddingModel> model);
  // Words and nearest examples count beside the vector (encoder_ensemble.h).
  EncoderHead(std::shared_ptr<const EncoderEnsemble> ensemble,
              std::shared_ptr<EmbeddingModel> model);

  // Scores the members with live[i]; at least one is. Of a long query the beginning counts.
  void Score(std::string_view query, const std::vector<bool>& live, const CallContext& context,
             std::function<void(absl::StatusOr<Scores>)> done) const;

  // What it scores with: exactly one of the two.
  const EmbeddingClassifier* classifier() const { return classifier_.get(); }
  const EncoderEnsemble* ensemble() const { return ensemble_.get(); }
  EmbeddingModel& model() const { return *model_; }

 private:
  // Exactly one of the two.
  const std::shared_ptr<const EmbeddingClassifier> classifier_;
  const std::shared_ptr<const EncoderEnsemble> ensemble_;
  const std::shared_ptr<EmbeddingModel> model_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_ENCODER_HEAD_H_
