#include "router/causal_rows.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "router/background_queries.h"
#include "router/encoder_head.h"

namespace octogate::router {
namespace {

constexpr int kEpochs = 40;
constexpr uint64_t kSeed = 1;
constexpr double kLearningRate = 0.15;
constexpr double kSmoothing = 0.02;
// Of texts that were learned, not trained, in place of a class.
constexpr int kLearned = -1;
constexpr float kTinyVariance = 1e-12F;

constexpr size_t kLanes = 8;  // LinearModel's rows are padded to whole vectors.

LinearModel EmptyModel(size_t features, size_t classes) {
  LinearModel model = {.features = features, .classes = classes};
  model.stride = (classes + kLanes - 1) / kLanes * kLanes;
  model.weights.assign(features * model.stride, 0);
  model.bias.assign(model.stride, 0);
  return model;
}

LinearModel SideBySide(const std::vector<CausalRows::Row>& rows, size_t features) {
  LinearModel model = EmptyModel(features, rows.size());
  for (size_t r = 0; r < rows.size(); ++r) {
    model.bias[r] = rows[r]->bias;
    for (size_t f = 0; f < features; ++f) {
      model.weights[f * model.stride + r] = rows[r]->weights[f];
    }
  }
  return model;
}

float LogitOf(const LinearRow& row, const SparseRows::Entry* point) {
  float logit = row.bias;
  for (size_t f = 0; f < row.weights.size(); ++f) logit += point[f].value * row.weights[f];
  return logit;
}

double Cosine(const SparseRows::Entry* a, const SparseRows::Entry* b, size_t size) {
  double dot = 0;
  double squares_a = 0;
  double squares_b = 0;
  for (size_t f = 0; f < size; ++f) {
    dot += double{a[f].value} * double{b[f].value};
    squares_a += double{a[f].value} * double{a[f].value};
    squares_b += double{b[f].value} * double{b[f].value};
  }
  const double norms = std::sqrt(squares_a * squares_b);
  return norms > 0 ? dot / norms : 0;
}

// Of each class's texts its place, of those of "none" the number of classes: in the order of
// EmbeddingClassifier::TextsOf.
std::vector<int> LabelsOf(const RoutingExamples& examples, size_t texts) {
  std::vector<int> labels;
  for (size_t c = 0; c < examples.classes.size(); ++c) {
    labels.insert(labels.end(), examples.classes[c].size(), static_cast<int>(c));
  }
  labels.resize(texts, static_cast<int>(examples.classes.size()));
  return labels;
}

// Eight columns of a model side by side, with that of one class. What is computed from them has the
// same bits as what is computed from the whole model.
struct ColumnsOfPlace {
  int place = -1;
  std::vector<float> weights;

  void Take(const LinearModel& model, int wanted) {
    if (place == wanted) return;
    place = wanted;
    const size_t first = static_cast<size_t>(place) / kLanes * kLanes;
    weights.clear();
    for (size_t f = 0; f < model.features; ++f) {
      const float* row = model.weights.data() + f * model.stride + first;
      weights.insert(weights.end(), row, row + kLanes);
    }
  }
};

// Whether a text that is built in, `i`, is close to one of [begin, end).
bool IsOnSubject(const SparseRows& points, size_t i, size_t begin, size_t end, size_t hidden) {
  const auto point = [&](size_t k) { return &points.entries[points.begin[k]]; };
  for (size_t k = begin; k < end; ++k) {
    if (Cosine(point(i), point(k), hidden) > CausalRows::kOnSubject) return true;
  }
  return false;
}

absl::StatusOr<const float*> VectorOf(std::string_view text, const ExampleEmbeddings& vectors) {
  const float* vector = vectors.Find(text);
  if (vector == nullptr) return absl::InternalError("an example has no vector");
  return vector;
}

}  // namespace

void CausalRows::AppendPoint(const float* vector, SparseRows* points) const {
  for (size_t f = 0; f < hidden_; ++f) {
    points->entries.push_back({static_cast<uint32_t>(f), (vector[f] - centre_[f]) * scale_[f]});
  }
  points->begin.push_back(points->entries.size());
}

float CausalRows::FixedLogit(const float* vector, size_t place) const {
  const float* tokens = vector + hidden_;
  if (place == native_.size()) return token_values_ == 0 ? 0 : tokens[token_values_ - 1];
  return native_[place] == kNoToken ? 0 : tokens[native_[place]];
}

std::vector<float> CausalRows::LogitsBy(const LinearModel& model, const float* vector,
                                        const SparseRows::Entry* point) const {
  std::vector<float> logits = model.bias;
  add_rows_(point, point + hidden_, model.weights.data(), model.stride, logits.data());
  logits.resize(model.classes);
  for (size_t c = 0; c < logits.size(); ++c) logits[c] += FixedLogit(vector, c);
  return logits;
}

absl::StatusOr<std::shared_ptr<const CausalRows>> CausalRows::Train(
    std::vector<int> native, size_t token_values, const RoutingExamples& examples,
    const ExampleEmbeddings& vectors, absl::Time deadline) {
  const size_t classes = examples.classes.size();
  if (classes == 0) return absl::InvalidArgumentError("a causal head needs at least one class");
  if (native.size() != classes || vectors.dimension() <= token_values) {
    return absl::InternalError("the classes or the vectors are not those of a causal head");
  }
  const std::shared_ptr<CausalRows> rows(new CausalRows());
  rows->add_rows_ = FindAddRows();
  rows->hidden_ = vectors.dimension() - token_values;
  rows->token_values_ = token_values;
  rows->native_ = std::move(native);
  const size_t hidden = rows->hidden_;

  std::vector<double> sums(hidden, 0);
  std::vector<double> squares(hidden, 0);
  for (const std::string_view text : BackgroundQueries()) {
    OCTOGATE_ASSIGN_OR_RETURN(const float* vector, VectorOf(text, vectors));
    for (size_t f = 0; f < hidden; ++f) {
      sums[f] += double{vector[f]};
      squares[f] += double{vector[f]} * double{vector[f]};
    }
  }
  const auto count = static_cast<double>(BackgroundQueries().size());
  for (size_t f = 0; f < hidden; ++f) {
    const double mean = sums[f] / count;
    const double variance = std::max<double>(squares[f] / count - mean * mean, kTinyVariance);
    rows->centre_.push_back(static_cast<float>(mean));
    // So that x has about the length 1.
    rows->scale_.push_back(
        static_cast<float>(1 / std::sqrt(variance * static_cast<double>(hidden))));
  }

  const std::vector<std::string_view> texts = EmbeddingClassifier::TextsOf(examples);
  const std::vector<int> labels = LabelsOf(examples, texts.size());
  const size_t background = texts.size() - BackgroundQueries().size();
  const size_t own = background - examples.none.size();
  SparseRows points;
  std::vector<const float*> vector_of;
  for (const std::string_view text : texts) {
    OCTOGATE_ASSIGN_OR_RETURN(const float* vector, VectorOf(text, vectors));
    rows->AppendPoint(vector, &points);
    vector_of.push_back(vector);
  }
  std::vector<uint32_t> all;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (i >= background && IsOnSubject(points, i, 0, own, hidden)) continue;
    all.push_back(static_cast<uint32_t>(i));
  }

  SoftmaxTraining training = {
      .epochs = kEpochs, .seed = kSeed, .learning_rate = kLearningRate, .smoothing = kSmoothing};
  bool any_row = false;
  if (token_values > 0) {
    training.add_offsets = [&](uint32_t i, float* logits) {
      for (size_t c = 0; c <= classes; ++c) logits[c] += rows->FixedLogit(vector_of[i], c);
    };
    for (const int place : rows->native_) {
      training.fixed.push_back(place != kNoToken);
      any_row = any_row || place == kNoToken;
    }
    training.fixed.push_back(true);
  }
  const bool train_any = any_row || token_values == 0;
  const auto train = [&](const std::vector<uint32_t>& some) -> absl::StatusOr<LinearModel> {
    if (!train_any) return EmptyModel(hidden, classes + 1);
    return TrainSoftmax(points, labels, some, hidden, classes + 1, training, deadline);
  };
  const auto logits_of = [&](const LinearModel& model, uint32_t i) {
    return rows->LogitsBy(model, vector_of[i], &points.entries[points.begin[i]]);
  };
  if (token_values == 0) {
    OCTOGATE_ASSIGN_OR_RETURN(rows->temperature_,
                              HeldOutTemperature(all, labels, train, logits_of));
  } else {
    // The rest of the vocabulary was not trained to be probable where nothing fits, so that texts
    // of "none" say nothing of the temperature. And the model may have been trained on the graph's
    // examples: what it is sure of there does not make it surer.
    std::vector<uint32_t> of_classes;
    std::vector<uint32_t> of_none;
    for (const uint32_t i : all) (i < own ? of_classes : of_none).push_back(i);
    const auto train_with_none = [&](std::vector<uint32_t> some) {
      some.insert(some.end(), of_none.begin(), of_none.end());
      return train(some);
    };
    if (!of_classes.empty()) {
      OCTOGATE_ASSIGN_OR_RETURN(const double fitted,
                                HeldOutTemperature(of_classes, labels, train_with_none, logits_of));
      rows->temperature_ = std::max(1.0, fitted);
    }
  }
  OCTOGATE_ASSIGN_OR_RETURN(rows->model_, train(all));
  return rows;
}

absl::StatusOr<std::shared_ptr<const CausalRows>> CausalRows::Learn(
    const CausalRows& trained, const RoutingExamples& examples, const LearnedClasses& learned,
    const ExampleEmbeddings& vectors, absl::Time deadline, std::vector<Row>* rows) {
  const size_t classes = examples.classes.size();
  const size_t hidden = trained.hidden_;
  const std::shared_ptr<CausalRows> result(new CausalRows(trained));
  result->columns_ = TrainedColumns(learned, classes);

  // The texts so far, and the logits of the rows so far.
  SparseRows points;
  std::vector<const float*> vector_of;
  std::vector<SummedLogits> sums;  // Of all rows.
  std::vector<int> labels;
  size_t background = 0;
  size_t background_end = 0;
  const auto point = [&](size_t i) { return &points.entries[points.begin[i]]; };
  const auto add = [&](std::string_view text) -> absl::Status {
    OCTOGATE_ASSIGN_OR_RETURN(const float* vector, VectorOf(text, vectors));
    trained.AppendPoint(vector, &points);
    vector_of.push_back(vector);
    sums.emplace_back(trained.LogitsBy(trained.model_, vector, point(points.size() - 1)));
    return absl::OkStatus();
  };
  const auto trained_place = [&](size_t r) {
    const size_t place = learned.rows[r].place;
    return place == learned.trained.size() ? static_cast<int>(classes) : learned.trained[place];
  };
  // What the trained rows say of class or "none" `place`; nothing of a class that was not trained.
  ColumnsOfPlace columns;
  const auto logit_of_place = [&](int place, size_t i) {
    if (place < 0) return SummedLogits::kNoLogit;
    columns.Take(trained.model_, place);
    const auto c = static_cast<size_t>(place);
    float logits[kLanes];
    std::copy_n(trained.model_.bias.data() + c / kLanes * kLanes, kLanes, logits);
    trained.add_rows_(point(i), point(i) + hidden, columns.weights.data(), kLanes, logits);
    return logits[c % kLanes] + trained.FixedLogit(vector_of[i], c);
  };
  const auto check_time = [deadline]() -> absl::Status {
    if (absl::Now() < deadline) return absl::OkStatus();
    return absl::DeadlineExceededError("counted learned rows until the deadline");
  };
  // Adds row r to the sums of the texts from `first` on.
  const auto count = [&](size_t r, size_t first) {
    const int place = trained_place(r);
    for (size_t i = first; i < points.size(); ++i) {
      const float logit = LogitOf(*(*rows)[r], point(i));
      const float before = logit_of_place(place, i);
      sums[i].Change(before, place < 0 ? logit : before + logit);
    }
  };
  const auto add_learned = [&](size_t r) -> absl::Status {
    const size_t first = points.size();
    for (const std::string& text : learned.rows[r].texts) OCTOGATE_RETURN_IF_ERROR(add(text));
    labels.resize(points.size(), kLearned);
    if (first == points.size()) return absl::OkStatus();
    for (size_t before = 0; before < r; ++before) {
      OCTOGATE_RETURN_IF_ERROR(check_time());
      count(before, first);
    }
    return absl::OkStatus();
  };
  const auto fit = [&](size_t r, size_t first) -> absl::StatusOr<LinearRow> {
    const int place = trained_place(r);
    std::vector<bool> own(points.size());
    std::vector<float> margins(points.size());
    std::vector<uint32_t> selected;
    size_t owned = 0;
    for (size_t i = 0; i < points.size(); ++i) {
      own[i] = i >= first || (place >= 0 && labels[i] == place);
      margins[i] = sums[i].MarginOf(logit_of_place(place, i));
      if (!own[i] && i >= background && i < background_end &&
          IsOnSubject(points, i, first, points.size(), hidden)) {
        continue;
      }
      owned += own[i] ? 1 : 0;
      selected.push_back(static_cast<uint32_t>(i));
    }
    const RowTraining training = {.epochs = kEpochs,
                                  .seed = kSeed,
                                  .learning_rate = kLearningRate,
                                  .smoothing = kSmoothing,
                                  .classes = classes + 2,
                                  .repeat = RepeatOf(owned)};
    return FitSoftmaxRow(points, own, margins, selected, hidden, training, deadline);
  };

  const bool fits_any =
      std::any_of(rows->begin(), rows->end(), [](const Row& row) { return row == nullptr; });
  if (fits_any) {
    for (const std::string_view text : EmbeddingClassifier::TextsOf(examples)) {
      OCTOGATE_RETURN_IF_ERROR(add(text));
    }
    labels = LabelsOf(examples, points.size());
    background_end = points.size();
    background = background_end - BackgroundQueries().size();
    for (size_t r = 0; r < rows->size(); ++r) {
      OCTOGATE_RETURN_IF_ERROR(check_time());
      const size_t first = points.size();
      OCTOGATE_RETURN_IF_ERROR(add_learned(r));
      if ((*rows)[r] == nullptr) {
        OCTOGATE_ASSIGN_OR_RETURN(LinearRow row, fit(r, first));
        (*rows)[r] = std::make_shared<const LinearRow>(std::move(row));
      }
      count(r, 0);
    }
  }
  result->learned_ = SideBySide(*rows, hidden);
  for (size_t r = 0; r < rows->size(); ++r) {
    result->columns_[learned.rows[r].place].learned = static_cast<int>(classes + 1 + r);
  }
  return result;
}

std::vector<float> CausalRows::Logits(std::span<const float> vector) const {
  SparseRows points;
  points.entries.reserve(hidden_);
  AppendPoint(vector.data(), &points);
  std::vector<float> logits = LogitsBy(model_, vector.data(), points.entries.data());
  if (columns_.empty()) return logits;
  std::vector<float> learned = learned_.bias;
  add_rows_(points.entries.data(), points.entries.data() + hidden_, learned_.weights.data(),
            learned_.stride, learned.data());
  logits.insert(logits.end(), learned.begin(),
                learned.begin() + static_cast<ptrdiff_t>(learned_.classes));
  std::vector<float> combined;
  CombineColumns(logits, columns_, &combined);
  return combined;
}

void CausalRows::Score(std::span<const float> vector, const std::vector<bool>& live,
                       HeadScores* scores) const {
  ScoreLogits(Logits(vector), live, temperature_, scores);
}

}  // namespace octogate::router
