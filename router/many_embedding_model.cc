#include "router/many_embedding_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "retrieval/dot_product.h"
#include "router/background_queries.h"
#include "router/encoder_head.h"
#include "router/exponential.h"
#include "router/random_order.h"

namespace octogate::router {
namespace {

// Of a class's mean before it is trained.
constexpr float kMeanLength = 10;
// Every fifth example is held out, up to so many.
constexpr size_t kHeldOutInterval = 5;
constexpr size_t kMaxHeldOut = 4000;
// Members that may be drained at a time before others than the nearest are looked at.
constexpr size_t kMaxPassedOver = 1024;
// What is added to a sum of squares before its root is taken.
constexpr float kTiny = 1e-12F;
// Gradients below this change next to nothing.
constexpr float kSmallGradient = 1e-3F;
constexpr size_t kDeadlineInterval = 512;

void Step(float gradient, float rate, float* weight, float* squares) {
  *squares += gradient * gradient;
  *weight -= rate * gradient / std::sqrt(*squares + kTiny);
}

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
  std::vector<float> shares;
  const auto rate = static_cast<float>(training.learning_rate);
  const auto smoothing = static_cast<float>(training.smoothing);
  std::vector<uint32_t> order = selected;
  Random random(training.seed);
  const int epochs = CandidateEpochs(training, selected.size());
  for (int epoch = 0; epoch < epochs; ++epoch) {
    Shuffle(&random, &order);
    for (size_t n = 0; n < order.size(); ++n) {
      if (n % kDeadlineInterval == 0 && absl::Now() >= deadline) {
        return absl::DeadlineExceededError(
            absl::StrCat("trained ", epoch, " of ", epochs, " epochs before the deadline"));
      }
      const float* const vector = vectors[order[n]];
      const std::vector<uint32_t>& weighed = candidates[order[n]];
      shares.clear();
      for (const uint32_t c : weighed) {
        shares.push_back(rows->bias[c] + dot(vector, &rows->weights[c * dimension], dimension));
      }
      const float max = *std::max_element(shares.begin(), shares.end());
      float sum = 0;
      for (float& share : shares) sum += share = Exponential(share - max);
      const float wrong =
          weighed.size() < 2 ? 0 : smoothing / static_cast<float>(weighed.size() - 1);
      for (size_t j = 0; j < weighed.size(); ++j) {
        const uint32_t c = weighed[j];
        const bool own = static_cast<int>(c) == labels[order[n]];
        const float error = shares[j] / sum - (own ? 1 - smoothing : wrong);
        if (std::abs(error) < kSmallGradient) continue;
        float* const weights = &rows->weights[c * dimension];
        float* const row_squares = &squares[c * dimension];
        for (size_t k = 0; k < dimension; ++k) {
          Step(error * vector[k], rate, &weights[k], &row_squares[k]);
        }
        Step(error, rate, &rows->bias[c], &bias_squares[c]);
      }
    }
  }
  return absl::OkStatus();
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
  std::vector<uint32_t> kept;
  std::vector<uint32_t> left_out;
  for (uint32_t i = 0; i < texts.size(); ++i) {
    const auto near = [&](const float* other) {
      return dot(vectors[i], other, dimension) > EmbeddingClassifier::kOnSubject;
    };
    if (i >= background &&
        std::any_of(vectors.begin(), vectors.begin() + static_cast<ptrdiff_t>(own), near)) {
      continue;
    }
    (selected.size() % kHeldOutInterval == 0 && left_out.size() < kMaxHeldOut ? left_out : kept)
        .push_back(i);
    selected.push_back(i);
  }

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

  OCTOGATE_RETURN_IF_ERROR(train(kept));
  CandidateCalibration calibration;
  for (const uint32_t i : left_out) {
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
