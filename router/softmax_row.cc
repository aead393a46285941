#include "router/softmax_row.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "router/exponential.h"
#include "router/random_order.h"

namespace octogate::router {
namespace {

// The others' share of the whole where a row has all of it, as far as one can tell.
constexpr double kSmallestShare = 1e-30;

}  // namespace

SummedLogits::SummedLogits(std::span<const float> logits)
    : max_(*std::max_element(logits.begin(), logits.end())) {
  for (const float logit : logits) sum_ += Exponential(logit - max_);
}

double SummedLogits::Share(float logit) const {
  return logit == kNoLogit ? 0 : Exponential(logit - max_);
}

float SummedLogits::MarginOf(float logit) const {
  const double others = std::max(sum_ - Share(logit), kSmallestShare);
  return (logit == kNoLogit ? 0 : logit) - max_ - static_cast<float>(std::log(others));
}

void SummedLogits::Change(float before, float after) { sum_ += Share(after) - Share(before); }

RowTraining RowTrainingOf(const SoftmaxTraining& training, size_t classes) {
  return {.epochs = training.epochs,
          .seed = training.seed,
          .learning_rate = training.learning_rate,
          .smoothing = training.smoothing,
          .classes = classes};
}

int RepeatOf(size_t texts) {
  constexpr size_t kTextsOfClass = 100;
  constexpr size_t kMaxRepeat = 8;
  return static_cast<int>(
      std::clamp<size_t>(kTextsOfClass / std::max<size_t>(texts, 1), 1, kMaxRepeat));
}

absl::StatusOr<LinearRow> FitSoftmaxRow(const SparseRows& examples, const std::vector<bool>& own,
                                        const std::vector<float>& margins,
                                        const std::vector<uint32_t>& selected, size_t features,
                                        const RowTraining& training, absl::Time deadline) {
  LinearRow row;
  row.weights.assign(features, 0);
  std::vector<float> squares(features, 0);
  float bias_squares = 0;
  const auto rate = static_cast<float>(training.learning_rate);
  const double others = training.classes < 2 ? 0 : static_cast<double>(training.classes - 1);
  const auto wrong = static_cast<float>(others == 0 ? 0 : training.smoothing / others);
  const auto right = static_cast<float>(1 - training.smoothing);
  // What is known better than this is passed over: it would change next to nothing.
  constexpr float kKnown = 0.995F;

  std::vector<uint32_t> order;
  for (const uint32_t example : selected) {
    order.insert(order.end(), own[example] ? static_cast<size_t>(training.repeat) : 1, example);
  }
  Random random(training.seed);
  for (int epoch = 0; epoch < training.epochs; ++epoch) {
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("learned ", epoch, " of ", training.epochs, " epochs before the deadline"));
    }
    Shuffle(&random, &order);
    for (const uint32_t example : order) {
      const auto* begin = examples.entries.data() + examples.begin[example];
      const auto* end = examples.entries.data() + examples.begin[example + 1];
      float margin = margins[example] + row.bias;
      for (const auto* entry = begin; entry != end; ++entry) {
        margin += entry->value * row.weights[entry->feature];
      }
      const float probability = 1 / (1 + Exponential(-margin));
      if (own[example] ? probability > kKnown : probability < (1 - kKnown)) continue;
      const float error = probability - (own[example] ? right : wrong);
      for (const auto* entry = begin; entry != end; ++entry) {
        AdagradStep(entry->value * error, rate, &row.weights[entry->feature],
                    &squares[entry->feature]);
      }
      AdagradStep(error, rate, &row.bias, &bias_squares);
    }
  }
  return row;
}

void CombineColumns(std::span<const float> columns, const std::vector<ClassColumns>& classes,
                    std::vector<float>* logits) {
  logits->resize(classes.size());
  for (size_t c = 0; c < classes.size(); ++c) {
    const ClassColumns& from = classes[c];
    float logit = SummedLogits::kNoLogit;
    if (from.trained >= 0) logit = columns[from.trained];
    if (from.learned >= 0) logit = (from.trained >= 0 ? logit : 0) + columns[from.learned];
    (*logits)[c] = logit;
  }
}

std::vector<ClassColumns> TrainedColumns(const LearnedClasses& learned, size_t trained) {
  std::vector<ClassColumns> columns;
  for (const int place : learned.trained) columns.push_back({.trained = place});
  columns.push_back({.trained = static_cast<int>(trained)});
  return columns;
}

}  // namespace octogate::router
