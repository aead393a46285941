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
// Means that are compared exactly with a vector: of those that codes find nearest, in a decision,
// and for an example to train on, which may do with about the nearest.
constexpr size_t kCompared = 256;
constexpr size_t kComparedInTraining = 128;
// Of a vector. Products with vectors of unit length stay far from what a float can hold.
constexpr double kMaxSquares = 1e30;

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

bool IsFinite(std::span<const float> vector) {
  double squares = 0;
  for (const float value : vector) squares += double{value} * double{value};
  return squares <= kMaxSquares;
}

}  // namespace

std::vector<std::vector<float>> ManyEmbeddingModel::MeansOf(
    const std::vector<const float*>& vectors, const std::vector<int>& labels,
    const std::vector<uint32_t>& selected, size_t classes, size_t dimension) {
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
    if (!(squares > 1e-12 && squares < kMaxSquares)) {
      mean.clear();
      continue;
    }
    const auto scale = static_cast<float>(1 / std::sqrt(squares));
    for (float& value : mean) value *= scale;
  }
  return means;
}

absl::StatusOr<std::shared_ptr<const ManyEmbeddingModel>> ManyEmbeddingModel::Train(
    const SoftmaxTraining& training, const RoutingExamples& examples,
    const ExampleEmbeddings& embeddings, absl::Time deadline) {
  const auto trained = std::make_shared<Trained>();
  const size_t classes = trained->classes = examples.classes.size();
  const std::shared_ptr<ManyEmbeddingModel> model(new ManyEmbeddingModel(ClassPlaces(classes)));
  const size_t dimension = trained->dimension = embeddings.dimension();
  const auto none = static_cast<uint32_t>(classes);
  model->trained_ = trained;
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
  const auto train = [&](const std::vector<uint32_t>& some) -> absl::Status {
    const std::vector<std::vector<float>> means =
        MeansOf(vectors, labels, some, classes, dimension);
    Rows rows = {.dimension = dimension};
    rows.weights.assign((classes + 1) * dimension, 0);
    rows.bias.assign(classes + 1, 0);
    trained->mean_class.clear();
    std::vector<float> values;
    for (size_t c = 0; c < classes; ++c) {
      if (means[c].empty()) continue;
      trained->mean_class.push_back(static_cast<uint32_t>(c));
      values.insert(values.end(), means[c].begin(), means[c].end());
      for (size_t k = 0; k < dimension; ++k) {
        rows.weights[c * dimension + k] = kMeanLength * means[c][k];
      }
    }
    trained->means = retrieval::CodedRows(dimension, std::move(values));
    for (const uint32_t i : some) {
      std::vector<uint32_t>& weighed = candidates[i];
      // Means change little by the examples held out before: what was found then is kept.
      if (!weighed.empty()) continue;
      if (absl::Now() >= deadline) {
        return absl::DeadlineExceededError("looked for candidates until the deadline");
      }
      weighed = {none};
      if (IsFinite({vectors[i], dimension})) {
        for (const retrieval::RowHit& hit :
             trained->means.Search({vectors[i], dimension}, kCandidates, kComparedInTraining)) {
          weighed.push_back(trained->mean_class[hit.row]);
        }
      }
      weighed.push_back(static_cast<uint32_t>(labels[i]));
      std::sort(weighed.begin(), weighed.end());
      weighed.erase(std::unique(weighed.begin(), weighed.end()), weighed.end());
    }
    OCTOGATE_RETURN_IF_ERROR(
        TrainRows(vectors, labels, some, candidates, training, deadline, &rows));
    trained->weights = std::move(rows.weights);
    trained->bias = std::move(rows.bias);
    return absl::OkStatus();
  };

  OCTOGATE_RETURN_IF_ERROR(train(split.kept));
  CandidateCalibration calibration;
  const std::vector<bool> live(classes, true);
  for (const uint32_t i : split.left_out) {
    const std::span<const float> vector(vectors[i], dimension);
    std::vector<ClassLogit> weighed;
    for (const Near& near : model->FindNearest(vector, live)) {
      weighed.push_back({near.place, trained->Logit(near.place, vector)});
    }
    calibration.Add(weighed, trained->Logit(none, vector), static_cast<size_t>(labels[i]), classes);
  }
  trained->temperature = calibration.Temperature();
  trained->coverage = calibration.Coverage();
  OCTOGATE_RETURN_IF_ERROR(train(selected));
  return model;
}

float ManyEmbeddingModel::Trained::Logit(size_t row, std::span<const float> vector) const {
  static const retrieval::DotProductFunction dot = retrieval::FindDotProduct();
  return bias[row] + dot(vector.data(), &weights[row * dimension], dimension);
}

float ManyEmbeddingModel::Logit(size_t place, std::span<const float> vector) const {
  static const retrieval::DotProductFunction dot = retrieval::FindDotProduct();
  const int trained = places_.trained_of[place];
  const int learned = places_.learned_of[place];
  if (trained < 0 && learned < 0) return SummedLogits::kNoLogit;
  float logit = trained < 0 ? 0 : trained_->Logit(static_cast<size_t>(trained), vector);
  if (learned >= 0) {
    const LinearRow& row = *learned_[static_cast<size_t>(learned)].row;
    logit += row.bias + dot(vector.data(), row.weights.data(), vector.size());
  }
  return logit;
}

std::vector<ManyEmbeddingModel::Near> ManyEmbeddingModel::FindNearest(
    std::span<const float> vector, const std::vector<bool>& live) const {
  static const retrieval::DotProductFunction dot = retrieval::FindDotProduct();
  if (!IsFinite(vector)) return {};
  const auto drained = static_cast<size_t>(std::count(live.begin(), live.end(), false));
  const size_t count = kCandidates + std::min(drained, kMaxPassedOver);
  std::vector<Near> nearest;
  nearest.reserve(count + learned_.size());
  for (const retrieval::RowHit& hit :
       trained_->means.Search(vector, count, std::max(kCompared, 2 * count))) {
    const int place = places_.place_of[trained_->mean_class[hit.row]];
    if (place >= 0) nearest.push_back({static_cast<uint32_t>(place), hit.score});
  }
  if (learned_.empty()) return nearest;
  const auto nearer = [](const Near& a, const Near& b) {
    return a.similarity != b.similarity ? a.similarity > b.similarity : a.place < b.place;
  };
  // A class that was trained counts by the nearer of its two means.
  for (const Learned& learned : learned_) {
    if (learned.mean.empty()) continue;
    const auto place = static_cast<uint32_t>(learned.place);
    const float similarity = dot(vector.data(), learned.mean.data(), vector.size());
    const auto same = places_.trained_of[place] < 0
                          ? nearest.end()
                          : std::find_if(nearest.begin(), nearest.end(),
                                         [place](const Near& near) { return near.place == place; });
    if (same == nearest.end()) {
      nearest.push_back({place, similarity});
    } else {
      same->similarity = std::max(same->similarity, similarity);
    }
  }
  const size_t kept = std::min(count, nearest.size());
  std::partial_sort(nearest.begin(), nearest.begin() + static_cast<ptrdiff_t>(kept), nearest.end(),
                    nearer);
  nearest.resize(kept);
  return nearest;
}

void ManyEmbeddingModel::Score(std::span<const float> vector, const std::vector<bool>& live,
                               HeadScores* scores) const {
  std::vector<ClassLogit> candidates;
  candidates.reserve(kCandidates);
  for (const Near& near : FindNearest(vector, live)) {
    if (!live[near.place] || candidates.size() == kCandidates) continue;
    candidates.push_back({near.place, Logit(near.place, vector)});
  }
  ScoreCandidates(&candidates, Logit(places_.classes, vector), places_.classes,
                  trained_->temperature, trained_->coverage, scores);
}

std::vector<float> ManyEmbeddingModel::Logits(std::span<const float> vector) const {
  std::vector<float> logits;
  for (size_t place = 0; place <= places_.classes; ++place) logits.push_back(Logit(place, vector));
  return logits;
}

size_t ManyEmbeddingModel::bytes() const {
  size_t bytes = trained_->means.bytes() +
                 (trained_->weights.capacity() + trained_->bias.capacity()) * sizeof(float) +
                 trained_->mean_class.capacity() * sizeof(uint32_t) +
                 (places_.place_of.capacity() + places_.trained_of.capacity() +
                  places_.learned_of.capacity()) *
                     sizeof(int);
  for (const Learned& learned : learned_) {
    bytes += (learned.mean.capacity() + learned.row->weights.capacity()) * sizeof(float);
  }
  return bytes;
}

}  // namespace octogate::router
