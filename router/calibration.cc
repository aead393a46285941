#include "router/calibration.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "common/status.h"
#include "router/held_out.h"

namespace octogate::router {
namespace {

// Of as many examples or fewer, each is held out once, a fifth at a time; of more, a fifth is.
constexpr size_t kManyExamples = 2000;
constexpr int kFolds = 5;

double NegativeLogLikelihood(const std::vector<std::vector<float>>& all,
                             const std::vector<int>& labels, double temperature) {
  double sum = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    const std::vector<float>& logits = all[i];
    const double max = *std::max_element(logits.begin(), logits.end());
    double total = 0;
    for (const float logit : logits) total += std::exp((logit - max) / temperature);
    sum += std::log(total) - (logits[labels[i]] - max) / temperature;
  }
  return sum;
}

}  // namespace

void ScoreLogits(std::span<const float> logits, const std::vector<bool>& live, double temperature,
                 HeadScores* scores) {
  const size_t classes = live.size();
  scores->probabilities.assign(classes, 0);
  scores->candidates.clear();
  double max = logits[classes];
  for (size_t c = 0; c < classes; ++c) {
    if (live[c]) max = std::max<double>(max, logits[c]);
  }
  double sum = 0;
  for (size_t c = 0; c < classes; ++c) {
    if (!live[c]) continue;
    scores->probabilities[c] = static_cast<float>(std::exp((logits[c] - max) / temperature));
    sum += scores->probabilities[c];
  }
  scores->live_probability = sum / (sum + std::exp((logits[classes] - max) / temperature));
  if (sum > 0) {
    for (float& probability : scores->probabilities) {
      probability = static_cast<float>(probability / sum);
    }
  }
}

void ScoreCandidates(std::vector<ClassLogit>* candidates, float none, size_t classes,
                     double temperature, double coverage, HeadScores* scores) {
  std::sort(candidates->begin(), candidates->end(),
            [](const ClassLogit& a, const ClassLogit& b) { return a.index < b.index; });
  scores->probabilities.assign(classes, 0);
  scores->candidates.clear();
  double max = none;
  for (const ClassLogit& candidate : *candidates) max = std::max<double>(max, candidate.logit);
  double sum = 0;
  for (const ClassLogit& candidate : *candidates) {
    const auto share = static_cast<float>(std::exp((candidate.logit - max) / temperature));
    scores->probabilities[candidate.index] = share;
    scores->candidates.push_back(candidate.index);
    sum += share;
  }
  scores->live_probability = coverage * sum / (sum + std::exp((none - max) / temperature));
  if (!(sum > 0)) return;
  for (const ClassLogit& candidate : *candidates) {
    float& probability = scores->probabilities[candidate.index];
    probability = static_cast<float>(probability / sum);
  }
}

void CandidateCalibration::Add(const std::vector<ClassLogit>& candidates, float none, size_t label,
                               size_t classes) {
  std::vector<float> logits = {none};
  int place = label == classes ? 0 : -1;
  for (const ClassLogit& candidate : candidates) {
    if (candidate.index == label) place = static_cast<int>(logits.size());
    logits.push_back(candidate.logit);
  }
  if (label != classes) {
    ++texts_;
    if (place < 0) return;  // No temperature makes that right.
    ++covered_;
  }
  logits_.push_back(std::move(logits));
  labels_.push_back(place);
}

double CandidateCalibration::Temperature() const { return FitTemperature(logits_, labels_); }

double CandidateCalibration::Coverage() const {
  return texts_ == 0 ? 1 : static_cast<double>(covered_) / static_cast<double>(texts_ + 1);
}

// The best of a fixed grid. The loss is convex in 1 / temperature, so that along the grid it falls,
// then rises.
double FitTemperature(const std::vector<std::vector<float>>& logits,
                      const std::vector<int>& labels) {
  constexpr double kLowest = 0.2;
  constexpr double kStep = 1.05;
  constexpr int kSteps = 65;
  std::array<double, kSteps + 1> grid;
  grid[0] = kLowest;
  for (int i = 1; i <= kSteps; ++i) grid[i] = grid[i - 1] * kStep;
  if (labels.empty()) return grid.back();
  int low = 0;
  int high = kSteps;
  while (low < high) {
    const int middle = low + (high - low) / 2;
    if (NegativeLogLikelihood(logits, labels, grid[middle + 1]) <
        NegativeLogLikelihood(logits, labels, grid[middle])) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return grid[low];
}

absl::StatusOr<HeldOutFit> FitHeldOut(const std::vector<uint32_t>& selected,
                                      const std::vector<int>& labels, const TrainOn& train,
                                      const LogitsOf& logits_of) {
  std::vector<std::vector<float>> logits;
  std::vector<int> left_out_labels;
  const int folds = selected.size() <= kManyExamples ? kFolds : 1;
  for (int fold = 0; fold < folds; ++fold) {
    std::vector<uint32_t> kept;
    std::vector<uint32_t> left_out;
    for (size_t k = 0; k < selected.size(); ++k) {
      (k % kFolds == static_cast<size_t>(fold) ? left_out : kept).push_back(selected[k]);
    }
    OCTOGATE_ASSIGN_OR_RETURN(const LinearModel model, train(kept));
    const size_t most = kMaxHeldOutLogits / static_cast<size_t>(folds) / (model.classes + 1);
    const size_t step = StepThrough(left_out.size(), most);
    for (size_t k = 0; k < left_out.size(); k += step) {
      const uint32_t i = left_out[k];
      logits.push_back(logits_of(model, i));
      left_out_labels.push_back(labels[i]);
    }
  }
  HeldOutFit fit = {.temperature = FitTemperature(logits, left_out_labels)};
  if (!logits.empty()) {
    fit.loss = NegativeLogLikelihood(logits, left_out_labels, fit.temperature) /
               static_cast<double>(logits.size());
  }
  return fit;
}

absl::StatusOr<double> HeldOutTemperature(const std::vector<uint32_t>& selected,
                                          const std::vector<int>& labels, const TrainOn& train,
                                          const LogitsOf& logits_of) {
  OCTOGATE_ASSIGN_OR_RETURN(const HeldOutFit fit, FitHeldOut(selected, labels, train, logits_of));
  return fit.temperature;
}

}  // namespace octogate::router
