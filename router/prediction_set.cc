#include "router/prediction_set.h"

#include <algorithm>

namespace octogate::router {

PredictionSet PredictionSetOf(const std::vector<float>& probabilities, double live_probability,
                              const std::vector<bool>& live, double cut) {
  PredictionSet set;
  for (size_t i = 0; i < probabilities.size(); ++i) {
    if (live[i] && probabilities[i] * live_probability >= cut) set.tokens.push_back(i);
  }
  std::stable_sort(set.tokens.begin(), set.tokens.end(),
                   [&](size_t a, size_t b) { return probabilities[a] > probabilities[b]; });
  set.none = 1 - live_probability >= cut;
  return set;
}

SetOutcome OutcomeOf(const PredictionSet& set) {
  if (set.tokens.empty()) return SetOutcome::kFallback;
  return set.size() == 1 ? SetOutcome::kToken : SetOutcome::kOpen;
}

}  // namespace octogate::router
