#include "router/lexical_head.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "common/status.h"
#include "router/background_queries.h"

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

// The best of a fixed grid: a convex function of 1 / temperature needs no finer search.
double FitTemperature(const HeldOut& held_out) {
  constexpr double kLowest = 0.2;
  constexpr double kHighest = 5;
  constexpr double kStep = 1.05;
  if (held_out.labels.empty()) return kHighest;
  double best = kLowest;
  double least = std::numeric_limits<double>::infinity();
  for (double temperature = kLowest; temperature <= kHighest; temperature *= kStep) {
    const double loss = NegativeLogLikelihood(held_out, temperature);
    if (loss >= least) continue;
    least = loss;
    best = temperature;
  }
  return best;
}

void ComputeLogits(const LinearModel& model, AddRowsFunction add_rows,
                   const SparseRows::Entry* begin, const SparseRows::Entry* end,
                   std::vector<float>* logits) {
  logits->assign(model.bias.begin(), model.bias.end());
  add_rows(begin, end, model.weights.data(), model.stride, logits->data());
}

double Dot(const SparseRows& rows, size_t i, const std::vector<float>& dense) {
  double sum = 0;
  for (size_t k = rows.begin[i]; k < rows.begin[i + 1]; ++k) {
    sum += rows.entries[k].value * dense[rows.entries[k].feature];
  }
  return sum;
}

// Examples [0, own) that have a text like example `i`.
bool IsOnSubject(const SparseRows& rows, size_t own, size_t i, std::vector<float>* dense) {
  for (size_t k = rows.begin[i]; k < rows.begin[i + 1]; ++k) {
    (*dense)[rows.entries[k].feature] = rows.entries[k].value;
  }
  bool found = false;
  for (size_t e = 0; e < own && !found; ++e) found = Dot(rows, e, *dense) > kOnSubject;
  for (size_t k = rows.begin[i]; k < rows.begin[i + 1]; ++k) {
    (*dense)[rows.entries[k].feature] = 0;
  }
  return found;
}

}  // namespace

LexicalHead::LexicalHead(int hash_bits) : vocabulary_(hash_bits), add_rows_(FindAddRows()) {}

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
  std::vector<uint32_t> selected;
  std::vector<float> dense(head->vocabulary_.rows());
  for (size_t i = 0; i < texts.size(); ++i) {
    if (i >= background && IsOnSubject(rows, own, i, &dense)) continue;
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
      std::vector<float> logits;
      ComputeLogits(model, head->add_rows_, &rows.entries[rows.begin[i]],
                    rows.entries.data() + rows.begin[i + 1], &logits);
      logits.resize(model.classes);
      held_out.logits.push_back(std::move(logits));
      held_out.labels.push_back(labels[i]);
    }
  }
  head->temperature_ = FitTemperature(held_out);
  OCTOGATE_ASSIGN_OR_RETURN(head->model_, train(selected));
  head->vocabulary_.FoldRuns(texts, &head->model_);
  return head;
}

void LexicalHead::Score(std::string_view text, const std::vector<bool>& live,
                        Scores* scores) const {
  std::unique_ptr<Scratch> scratch = TakeScratch();
  scratch->vector.clear();
  vocabulary_.Append(text, &scratch->extractor, &scratch->vector);
  std::vector<float>& logits = scratch->logits;
  ComputeLogits(model_, add_rows_, scratch->vector.data(),
                scratch->vector.data() + scratch->vector.size(), &logits);

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
