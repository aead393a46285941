#ifndef OCTOGATE_ROUTER_PREDICTION_SET_H_
#define OCTOGATE_ROUTER_PREDICTION_SET_H_

#include <cstddef>
#include <vector>

// What a head with `coverage` says: not one best token but all candidates that the query may well
// be for, "none of these" among them (split conformal prediction; decision_quality.h).

namespace octogate::router {

struct PredictionSet {
  std::vector<size_t> tokens;  // Live ones, the most probable first, of equal ones the earlier.
  bool none = false;           // Whether "none of these" is in the set.

  size_t size() const { return tokens.size() + (none ? 1 : 0); }
};

// Every candidate of at least the probability `cut`. `probabilities` are those of tokens among the
// live ones, which have `live_probability` together; "none of these" has the rest. Tokens that are
// not live are no candidates.
PredictionSet PredictionSetOf(const std::vector<float>& probabilities, double live_probability,
                              const std::vector<bool>& live, double cut);

// What a cascade does with a set.
enum class SetOutcome {
  kToken,     // A set of one token decides for it.
  kFallback,  // No token is in the set.
  kOpen,      // More than one candidate: a matter for the next head.
};
SetOutcome OutcomeOf(const PredictionSet& set);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_PREDICTION_SET_H_
