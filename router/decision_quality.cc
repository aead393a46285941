#include "router/decision_quality.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace octogate::router {

double ExpectedCalibrationError(const std::vector<ScoredDecision>& decisions, int bins) {
  std::vector<double> surplus(static_cast<size_t>(bins), 0);
  for (const ScoredDecision& decision : decisions) {
    const int bin = std::clamp(static_cast<int>(decision.confidence * bins), 0, bins - 1);
    surplus[static_cast<size_t>(bin)] += decision.confidence - (decision.right ? 1 : 0);
  }
  double sum = 0;
  for (const double bin : surplus) sum += std::abs(bin);
  return decisions.empty() ? 0 : sum / static_cast<double>(decisions.size());
}

double ThresholdForRisk(std::vector<ScoredDecision> decisions, double risk) {
  constexpr double kNever = 2;
  std::sort(decisions.begin(), decisions.end(),
            [](const auto& a, const auto& b) { return a.confidence > b.confidence; });
  double threshold = kNever;
  double wrong = 1;
  double taken = 1;
  for (size_t i = 0; i < decisions.size(); ++i) {
    wrong += decisions[i].right ? 0 : decisions[i].importance;
    taken += decisions[i].importance;
    // A threshold takes equal ones together.
    if (i + 1 < decisions.size() && decisions[i + 1].confidence == decisions[i].confidence) {
      continue;
    }
    if (wrong <= risk * taken) threshold = decisions[i].confidence;
  }
  return threshold;
}

double ProbabilityForCoverage(std::vector<double> label_probabilities, double coverage) {
  const auto count = static_cast<double>(label_probabilities.size());
  // The label of this many of count + 1 examples, of equal ranks, is to be in its set.
  const double inside = std::ceil((count + 1) * coverage);
  if (inside > count) return 0;
  std::sort(label_probabilities.begin(), label_probabilities.end(), std::greater<>());
  return label_probabilities[static_cast<size_t>(std::max(1.0, inside)) - 1];
}

}  // namespace octogate::router
