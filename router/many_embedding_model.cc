#include "router/many_embedding_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "retrieval/dot_product.h"
#include "router/background_queries.h"
#include "router/encoder_head.h"

namespace octogate::router {
namespace {

// Of a class's mean before it is trained.
constexpr float kMeanLength = 10;
// Members that may be drained at a time before others than the nearest are looked at.
constexpr size_t kMaxPassedOver = 1024;

// The dense rows of classes, and of "none" behind them.
struct Rows {
  size_t dimension = 0;
  std::vector<float> weights;
  std::vector<float> bias;
};

// As TrainCandidates, of rows that have all features.
absl::Status TrainRows(const std::vector<const float*>& vectors, const std::vector<int>& labels,
                       const std::vector<uint32_t>& selected,
                       const std::vector<std::vector<uint32_t>>& candidates,
                       const SoftmaxTraining& training, absl::Time deadline, Rows* rows) {
  const retrieval::DotProductFunction dot = retrieval::FindDotProduct();
  const size_t dimension = rows->dimension;
  std::vector<float> squares(rows->weights.size(), 0);
  std::vector<float> bias_squares(rows->bias.size(), 0);
  const float* vector = nullptr;
  const auto rate = static_cast<float>(training.learning_rate);
  const auto append_logits = [&](uint32_t example, const std::vector<uint32_t>& weighed,
                                 std::vector<float>* logits) {
    vector = vectors[example];
    for (const uint32_t c : weighed) {
      logits->push_back(rows->bias[c] + dot(vector, &rows->weights[c * dimension], dimension));
    }
  };
  const auto step = [&](size_t, uint32_t c, float error) {
    float* const weights = &rows->weights[c * dimension];
    float* const row_squares = &squares[c * dimension];
    for (size_t k = 0; k < dimension; ++k) {
      AdagradStep(error * vector[k], rate, &weights[k], &row_squares[k]);
    }
    AdagradStep(error, rate, &rows->bias[c], &bias_squares[c]);
  };
  return TrainOnCandidates(labels, selected, candidates, training, deadline,
                           {.append_logits = append_logits, .step = step});
}

// The means of the classes' selected vectors, of unit length; an empty one of a class without.
std::vector<std::vector<float>> MeansOf(const std::vector<const float*>& vectors,
                                        const std::vector<int>& labels,
                                        const std::vector<uint32_t>& selected, size_t classes,
                                        size_t dimension) {
  std::vector<std::vector<float>> means(classes);
  for (const uint32_t i : selected) {
    if (static_cast<size_t>(labels[i]) >= classes) continue;
    std::vector<float>& mean = means[static_cast<size_t>(labels[i])];
    mean.resize(dimension, 0);
    for (size_t k = 0; k < dimension; ++k) mean[k] += vectors[i][k];
  }
  for (std::vector<float>& mean : means) {
    double squares = 0;
    for (const float value : mean) squares += double{value} * double{value};
    if (!(squares > 1e-12)) {
      mean.clear();
      continue;
    }
    const auto scale = static_cast<float>(1 / std::sqrt(squares));
    for (float& value : mean) value *= scale;
  }
  return means;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ManyEmbeddingModel>> ManyEmbeddingModel::Train(
    const SoftmaxTraining& training, const RoutingExamples& examples,
    const ExampleEmbeddings& embeddings, absl::Time deadline) {
  const std::shared_ptr<ManyEmbeddingModel> model(new ManyEmbeddingModel());
  const size_t classes = model->classes_ = examples.classes.size();
  const size_t dimension = model->dimension_ = embeddings.dimension();
  const auto none = static_cast<uint32_t>(classes);
  std::vector<int> labels;
  for (size_t c = 0; c < classes; ++c) {
    labels.insert(labels.end(), examples.classes[c].size(), static_cast<int>(c));
  }
  const size_t own = labels.size();
  const std::vector<std::string_view> texts = EmbeddingClassifier::TextsOf(examples);
  labels.resize(texts.size(), static_cast<int>(none));
  const size_t background = texts.size() - BackgroundQueries().size();
  std::vector<const float*> vectors;
  for (const std::string_view text : texts) {
    vectors.push_back(embeddings.Find(text));
    if (vectors.back() == nullptr) return absl::InternalError("an example has no vector");
  }
  const retrieval::DotProductFunction dot = retrieval::FindDotProduct();
  std::vector<uint32_t> selected;
  for (uint32_t i = 0; i < texts.size(); ++i) {
    const auto near = [&](const float* other) {
      return dot(vectors[i], other, dimension) > EmbeddingClassifier::kOnSubject;
    };
    if (i >= background &&
        std::any_of(vectors.begin(), vectors.begin() + static_cast<ptrdiff_t>(own), near)) {
      continue;
    }
    selected.push_back(i);
  }
  const CandidateSplit split = HoldOutForCalibration(selected);

  std::vector<std::vector<uint32_t>> candidates(texts.size());
  const std::vector<bool> live(classes, true);
  const auto train = [&](const std::vector<uint32_t>& some) -> absl::Status {
    const std::vector<std::vector<float>> means =
        MeansOf(vectors, labels, some, classes, dimension);
    OCTOGATE_ASSIGN_OR_RETURN(model->means_,
                              retrieval::VectorIndex::Create({.dimension = dimension}));
    Rows rows = {.dimension = dimension};
    rows.weights.assign((classes + 1) * dimension, 0);
    rows.bias.assign(classes + 1, 0);
    std::vector<int64_t> ids;
    std::vector<float> values;
    for (size_t c = 0; c < classes; ++c) {
      if (means[c].empty()) continue;
      ids.push_back(static_cast<int64_t>(c));
      values.insert(values.end(), means[c].begin(), means[c].end());
      for (size_t k = 0; k < dimension; ++k) {
        rows.weights[c * dimension + k] = kMeanLength * means[c][k];
      }
    }
    OCTOGATE_RETURN_IF_ERROR(model->means_->Add(ids, values));
    for (const uint32_t i : some) {
      if (absl::Now() >= deadline) {
        return absl::DeadlineExceededError("looked for candidates until the deadline");
      }
      std::vector<uint32_t>& weighed = candidates[i];
      weighed = {none};
      for (const retrieval::VectorHit& hit : model->FindNearest({vectors[i], dimension}, live)) {
        weighed.push_back(static_cast<uint32_t>(hit.id));
      }
      weighed.push_back(static_cast<uint32_t>(labels[i]));
      std::sort(weighed.begin(), weighed.end());
      weighed.erase(std::unique(weighed.begin(), weighed.end()), weighed.end());
    }
    OCTOGATE_RETURN_IF_ERROR(
        TrainRows(vectors, labels, some, candidates, training, deadline, &rows));
    model->weights_ = std::move(rows.weights);
    model->bias_ = std::move(rows.bias);
    return absl::OkStatus();
  };

  OCTOGATE_RETURN_IF_ERROR(train(split.kept));
  CandidateCalibration calibration;
  for (const uint32_t i : split.left_out) {
    const std::span<const float> vector(vectors[i], dimension);
    std::vector<ClassLogit> weighed;
    for (const retrieval::VectorHit& hit : model->FindNearest(vector, live)) {
      const auto c = static_cast<uint32_t>(hit.id);
      weighed.push_back({c, model->Logit(c, vector)});
    }
    calibration.Add(weighed, model->Logit(none, vector), static_cast<size_t>(labels[i]), classes);
  }
  model->temperature_ = calibration.Temperature();
  model->coverage_ = calibration.Coverage();
  OCTOGATE_RETURN_IF_ERROR(train(selected));
  return model;
}

float ManyEmbeddingModel::Logit(size_t row, std::span<const float> vector) const {
  static const retrieval::DotProductFunction dot = retrieval::FindDotProduct();
  return bias_[row] + dot(vector.data(), &weights_[row * dimension_], dimension_);
}

std::vector<retrieval::VectorHit> ManyEmbeddingModel::FindNearest(
    std::span<const float> vector, const std::vector<bool>& live) const {
  const auto drained = static_cast<size_t>(std::count(live.begin(), live.end(), false));
  auto hits = means_->Search(vector, kCandidates + std::min(drained, kMaxPassedOver));
  if (!hits.ok()) return {};
  return *std::move(hits);
}

void ManyEmbeddingModel::ScoreThese(const std::vector<retrieval::VectorHit>& nearest,
                                    std::span<const float> vector, const std::vector<bool>& live,
                                    HeadScores* scores) const {
  std::vector<ClassLogit> candidates;
  candidates.reserve(kCandidates);
  for (const retrieval::VectorHit& hit : nearest) {
    const auto c = static_cast<size_t>(hit.id);
    if (!live[c] || candidates.size() == kCandidates) continue;
    candidates.push_back({static_cast<uint32_t>(c), Logit(c, vector)});
  }
  ScoreCandidates(&candidates, Logit(classes_, vector), classes_, temperature_, coverage_, scores);
}

void ManyEmbeddingModel::Score(std::span<const float> vector, const std::vector<bool>& live,
                               HeadScores* scores) const {
  ScoreThese(FindNearest(vector, live), vector, live, scores);
}

std::vector<float> ManyEmbeddingModel::Logits(std::span<const float> vector) const {
  std::vector<float> logits;
  for (size_t row = 0; row <= classes_; ++row) logits.push_back(Logit(row, vector));
  return logits;
}

size_t ManyEmbeddingModel::bytes() const {
  return means_->bytes() + (weights_.capacity() + bias_.capacity()) * sizeof(float);
}

}  // namespace octogate::router
