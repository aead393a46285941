#include "router/lexical_head.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "common/status.h"
#include "router/background_queries.h"
#include "router/softmax_regression.h"

namespace octogate::router {
namespace {

constexpr double kLearningRate = 0.15;
// What training leaves to each wrong class, and to all of them at most. The more classes, the more
// it gains: rare words are not driven to extremes to tell apart what is told apart already. Chosen,
// like the learning rate, on the validation texts of CLINC150 and held-out training texts of
// MMLU-Pro.
constexpr double kSmoothingPerClass = 0.001;
constexpr double kMaxSmoothing = 0.2;
// A background text that is as close as this to an example (cosine) is on a node's subject.
constexpr double kOnSubject = 0.35;
// Of as many examples or fewer, each is held out once, a fifth at a time; of more, a fifth is.
constexpr size_t kManyExamples = 2000;
constexpr int kFolds = 5;
constexpr size_t kMaxIdleScratch = 16;

// Logits of held-out examples, by which the temperature is chosen.
struct HeldOut {
  std::vector<std::vector<float>> logits;
  std::vector<int> labels;
};

double NegativeLogLikelihood(const HeldOut& held_out, double temperature) {
  double sum = 0;
  for (size_t i = 0; i < held_out.labels.size(); ++i) {
    const std::vector<float>& logits = held_out.logits[i];
    const double max = *std::max_element(logits.begin(), logits.end());
    double total = 0;
    for (const float logit : logits) total += std::exp((logit - max) / temperature);
    sum += std::log(total) - (logits[held_out.labels[i]] - max) / temperature;
  }
  return sum;
}

// The best of a fixed grid. The loss is convex in 1 / temperature, so that along the grid it falls,
// then rises.
double FitTemperature(const HeldOut& held_out) {
  constexpr double kLowest = 0.2;
  constexpr double kStep = 1.05;
  constexpr int kSteps = 65;
  std::array<double, kSteps + 1> grid;
  grid[0] = kLowest;
  for (int i = 1; i <= kSteps; ++i) grid[i] = grid[i - 1] * kStep;
  if (held_out.labels.empty()) return grid.back();
  int low = 0;
  int high = kSteps;
  while (low < high) {
    const int middle = low + (high - low) / 2;
    if (NegativeLogLikelihood(held_out, grid[middle + 1]) <
        NegativeLogLikelihood(held_out, grid[middle])) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return grid[low];
}

// Of each text from `first` on: whether one of the texts [0, own) is like it.
std::vector<bool> FindOnSubject(const SparseRows& rows, size_t own, size_t first, size_t features) {
  // Of each feature, the texts from `first` on that have it: most features have none.
  struct Occurrence {
    size_t text;
    float value;
  };
  std::vector<std::vector<Occurrence>> occurrences(features);
  for (size_t i = first; i < rows.size(); ++i) {
    for (size_t k = rows.begin[i]; k < rows.begin[i + 1]; ++k) {
      occurrences[rows.entries[k].feature].push_back({i - first, rows.entries[k].value});
    }
  }
  std::vector<bool> found(rows.size() - first);
  std::vector<double> cosines(found.size());
  for (size_t e = 0; e < own; ++e) {
    std::fill(cosines.begin(), cosines.end(), 0.0);
    for (size_t k = rows.begin[e]; k < rows.begin[e + 1]; ++k) {
      const SparseRows::Entry& entry = rows.entries[k];
      for (const Occurrence& other : occurrences[entry.feature]) {
        cosines[other.text] += entry.value * other.value;
      }
    }
    for (size_t i = 0; i < found.size(); ++i) {
      if (cosines[i] > kOnSubject) found[i] = true;
    }
  }
  return found;
}

}  // namespace

LexicalHead::LexicalHead(int hash_bits) : vocabulary_(hash_bits) {}

absl::StatusOr<std::shared_ptr<const LexicalHead>> LexicalHead::Train(
    const v1::LexicalHead& settings, const LexicalExamples& examples, absl::Time deadline) {
  if (examples.classes.empty()) {
    return absl::InvalidArgumentError("a lexical head needs at least one class");
  }
  const std::shared_ptr<LexicalHead> head(new LexicalHead(settings.hash_bits()));
  head->classes_ = examples.classes.size();
  const int none = static_cast<int>(head->classes_);

  std::vector<std::string_view> texts;
  std::vector<int> labels;
  for (size_t c = 0; c < examples.classes.size(); ++c) {
    for (const std::string& text : examples.classes[c]) {
      texts.push_back(text);
      labels.push_back(static_cast<int>(c));
    }
  }
  const size_t own = texts.size();
  texts.insert(texts.end(), examples.none.begin(), examples.none.end());
  const size_t background = texts.size();
  texts.insert(texts.end(), BackgroundQueries().begin(), BackgroundQueries().end());
  labels.resize(texts.size(), none);

  const SparseRows rows = head->vocabulary_.Index(texts);
  const std::vector<bool> on_subject =
      FindOnSubject(rows, own, background, head->vocabulary_.rows());
  std::vector<uint32_t> selected;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (i >= background && on_subject[i - background]) continue;
    selected.push_back(static_cast<uint32_t>(i));
  }

  const SoftmaxTraining training = {
      .epochs = settings.epochs(),
      .seed = settings.seed(),
      .learning_rate = kLearningRate,
      .smoothing = std::min(kMaxSmoothing,
                            kSmoothingPerClass * static_cast<double>(examples.classes.size()))};
  const auto train = [&](const std::vector<uint32_t>& some) {
    return TrainSoftmax(rows, labels, some, head->vocabulary_.rows(), head->classes_ + 1, training,
                        deadline);
  };
  HeldOut held_out;
  const int folds = selected.size() <= kManyExamples ? kFolds : 1;
  for (int fold = 0; fold < folds; ++fold) {
    std::vector<uint32_t> kept;
    std::vector<uint32_t> left_out;
    for (size_t k = 0; k < selected.size(); ++k) {
      (k % kFolds == static_cast<size_t>(fold) ? left_out : kept).push_back(selected[k]);
    }
    OCTOGATE_ASSIGN_OR_RETURN(const LinearModel model, train(kept));
    for (const uint32_t i : left_out) {
      std::vector<float> logits = model.bias;
      FindAddRows()(rows.entries.data() + rows.begin[i], rows.entries.data() + rows.begin[i + 1],
                    model.weights.data(), model.stride, logits.data());
      logits.resize(model.classes);
      held_out.logits.push_back(std::move(logits));
      held_out.labels.push_back(labels[i]);
    }
  }
  head->temperature_ = FitTemperature(held_out);
  OCTOGATE_ASSIGN_OR_RETURN(LinearModel model, train(selected));
  head->vocabulary_.FoldRuns(texts, &model);
  head->model_ = Quantize(model);
  return head;
}

void LexicalHead::Score(std::string_view text, const std::vector<bool>& live,
                        Scores* scores) const {
  std::unique_ptr<Scratch> scratch = TakeScratch();
  vocabulary_.Read(text, &scratch->extractor, &scratch->rows);
  const std::vector<float>& logits =
      scratch->logits.Compute(model_, LexicalVocabulary::Frequency, &scratch->rows);

  scores->probabilities.assign(classes_, 0);
  double max = logits[classes_];
  for (size_t c = 0; c < classes_; ++c) {
    if (live[c]) max = std::max<double>(max, logits[c]);
  }
  double sum = 0;
  for (size_t c = 0; c < classes_; ++c) {
    if (!live[c]) continue;
    scores->probabilities[c] = static_cast<float>(std::exp((logits[c] - max) / temperature_));
    sum += scores->probabilities[c];
  }
  scores->live_probability = sum / (sum + std::exp((logits[classes_] - max) / temperature_));
  if (sum > 0) {
    for (float& probability : scores->probabilities) {
      probability = static_cast<float>(probability / sum);
    }
  }
  ReturnScratch(std::move(scratch));
}

std::unique_ptr<LexicalHead::Scratch> LexicalHead::TakeScratch() const {
  {
    absl::MutexLock lock(&mutex_);
    if (!scratch_.empty()) {
      std::unique_ptr<Scratch> scratch = std::move(scratch_.back());
      scratch_.pop_back();
      return scratch;
    }
  }
  return std::make_unique<Scratch>();
}

void LexicalHead::ReturnScratch(std::unique_ptr<Scratch> scratch) const {
  absl::MutexLock lock(&mutex_);
  if (scratch_.size() < kMaxIdleScratch) scratch_.push_back(std::move(scratch));
}

}  // namespace octogate::router
