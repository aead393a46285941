#include "router/encoder_head.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "router/background_queries.h"
#include "router/candidate_softmax.h"
#include "router/encoder_ensemble.h"
#include "router/many_embedding_model.h"

namespace octogate::router {
namespace {

// Chosen on the validation texts of CLINC150 and held-out training texts of MMLU-Pro, with vectors
// of all-MiniLM-L6-v2.
constexpr double kLearningRate = 0.15;
constexpr double kSmoothing = 0.02;

double Dot(const float* a, const float* b, size_t size) {
  double sum = 0;
  for (size_t i = 0; i < size; ++i) sum += double{a[i]} * double{b[i]};
  return sum;
}

// A vector as the trainer takes it.
void Append(std::span<const float> vector, SparseRows* rows) {
  for (size_t i = 0; i < vector.size(); ++i) {
    rows->entries.push_back({static_cast<uint32_t>(i), vector[i]});
  }
  rows->begin.push_back(rows->entries.size());
}

}  // namespace

SoftmaxTraining EmbeddingClassifier::TrainingOf(const v1::EncoderHead& settings) {
  return {.epochs = settings.epochs(),
          .seed = settings.seed(),
          .learning_rate = kLearningRate,
          .smoothing = kSmoothing};
}

std::vector<std::string_view> EmbeddingClassifier::TextsOf(const RoutingExamples& examples) {
  std::vector<std::string_view> texts;
  for (const std::vector<std::string>& own : examples.classes) {
    texts.insert(texts.end(), own.begin(), own.end());
  }
  texts.insert(texts.end(), examples.none.begin(), examples.none.end());
  texts.insert(texts.end(), BackgroundQueries().begin(), BackgroundQueries().end());
  return texts;
}

absl::StatusOr<std::shared_ptr<const EmbeddingClassifier>> EmbeddingClassifier::Train(
    const v1::EncoderHead& settings, const RoutingExamples& examples,
    const ExampleEmbeddings& embeddings, absl::Time deadline) {
  if (examples.classes.empty()) {
    return absl::InvalidArgumentError("an encoder head needs at least one class");
  }
  const std::shared_ptr<EmbeddingClassifier> classifier(new EmbeddingClassifier());
  classifier->add_rows_ = FindAddRows();
  classifier->dimension_ = embeddings.dimension();
  if (examples.classes.size() >= kManyClasses) {
    OCTOGATE_ASSIGN_OR_RETURN(
        classifier->many_,
        ManyEmbeddingModel::Train(TrainingOf(settings), examples, embeddings, deadline));
    classifier->temperature_ = classifier->many_->temperature();
    return classifier;
  }
  const size_t classes = examples.classes.size();
  std::vector<int> labels;
  for (size_t c = 0; c < classes; ++c) {
    labels.insert(labels.end(), examples.classes[c].size(), static_cast<int>(c));
  }
  const size_t own = labels.size();
  const std::vector<std::string_view> texts = TextsOf(examples);
  const size_t background = texts.size() - BackgroundQueries().size();
  labels.resize(texts.size(), static_cast<int>(classes));

  const size_t dimension = embeddings.dimension();
  SparseRows rows;
  std::vector<const float*> vectors;
  std::vector<uint32_t> selected;
  for (size_t i = 0; i < texts.size(); ++i) {
    const float* vector = embeddings.Find(texts[i]);
    if (vector == nullptr) return absl::InternalError("an example has no vector");
    vectors.push_back(vector);
    Append({vector, dimension}, &rows);
    const auto near = [&](const float* other) {
      return Dot(vector, other, dimension) > EmbeddingClassifier::kOnSubject;
    };
    if (i >= background &&
        std::any_of(vectors.begin(), vectors.begin() + static_cast<ptrdiff_t>(own), near)) {
      continue;
    }
    selected.push_back(static_cast<uint32_t>(i));
  }

  const SoftmaxTraining training = TrainingOf(settings);
  const auto train = [&](const std::vector<uint32_t>& some) {
    return TrainSoftmax(rows, labels, some, dimension, classes + 1, training, deadline);
  };
  const auto logits_of = [&](const LinearModel& model, uint32_t i) {
    std::vector<float> logits = model.bias;
    classifier->add_rows_(&rows.entries[rows.begin[i]], rows.entries.data() + rows.begin[i + 1],
                          model.weights.data(), model.stride, logits.data());
    logits.resize(model.classes);
    return logits;
  };
  OCTOGATE_ASSIGN_OR_RETURN(classifier->temperature_,
                            HeldOutTemperature(selected, labels, train, logits_of));
  OCTOGATE_ASSIGN_OR_RETURN(classifier->model_, train(selected));
  return classifier;
}

void EmbeddingClassifier::Score(std::span<const float> vector, const std::vector<bool>& live,
                                HeadScores* scores) const {
  if (many_ != nullptr) return many_->Score(vector, live, scores);
  ScoreLogits(Logits(vector), live, temperature_, scores);
}

std::vector<float> EmbeddingClassifier::Logits(std::span<const float> vector) const {
  if (many_ != nullptr) return many_->Logits(vector);
  SparseRows rows;
  rows.entries.reserve(vector.size());
  Append(vector, &rows);
  std::vector<float> logits = model_.bias;
  add_rows_(rows.entries.data(), rows.entries.data() + rows.entries.size(), model_.weights.data(),
            model_.stride, logits.data());
  logits.resize(model_.classes);
  if (columns_.empty()) return logits;
  std::vector<float> combined;
  CombineColumns(logits, columns_, &combined);
  return combined;
}

EncoderHead::EncoderHead(std::shared_ptr<const EmbeddingClassifier> classifier,
                         std::shared_ptr<EmbeddingModel> model)
    : classifier_(std::move(classifier)), model_(std::move(model)) {}

EncoderHead::EncoderHead(std::shared_ptr<const EncoderEnsemble> ensemble,
                         std::shared_ptr<EmbeddingModel> model)
    : ensemble_(std::move(ensemble)), model_(std::move(model)) {}

void EncoderHead::Score(std::string_view query, const std::vector<bool>& live,
                        const CallContext& context,
                        std::function<void(absl::StatusOr<Scores>)> done) const {
  v1::WorkerEmbedRequest request;
  request.add_inputs(std::string(query));
  request.set_cut_long_inputs(true);
  model_->Embed(
      request, context,
      [head = shared_from_this(), query = std::string(query), live,
       done = std::move(done)](absl::StatusOr<v1::WorkerEmbedResponse> response) {
        if (!response.ok()) return done(response.status());
        const size_t dimension = head->ensemble_ != nullptr ? head->ensemble_->dimension()
                                                            : head->classifier_->dimension();
        if (response->embeddings_size() != 1 ||
            static_cast<size_t>(response->embeddings(0).values_size()) != dimension) {
          return done(absl::InternalError(
              absl::StrCat("the encoder's answer is not one vector of ", dimension, " values")));
        }
        Scores scores;
        scores.usage = response->usage();
        const std::span<const float> vector(response->embeddings(0).values().data(), dimension);
        if (head->ensemble_ != nullptr) {
          head->ensemble_->Score(query, vector, live, &scores);
        } else {
          head->classifier_->Score(vector, live, &scores);
        }
        done(std::move(scores));
      });
}

}  // namespace octogate::router
