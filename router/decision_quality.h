#ifndef OCTOGATE_ROUTER_DECISION_QUALITY_H_
#define OCTOGATE_ROUTER_DECISION_QUALITY_H_

#include <cstddef>
#include <vector>

// How far confidence can be trusted, and bounds on it chosen from decisions about examples that
// training did not see.

namespace octogate::router {

struct ScoredDecision {
  double confidence = 0;  // In [0, 1].
  bool right = false;
  double importance = 1;  // For how many decisions it stands.
};

// The mean distance of confidence and share of right decisions, over `bins` bins of confidence of
// equal width, weighted by their decisions, of which each is one here (Naeini, Cooper and
// Hauskrecht 2015). 0 for none.
double ExpectedCalibrationError(const std::vector<ScoredDecision>& decisions, int bins = 15);

// The least threshold t such that of the decisions with confidence >= t a share of at most `risk`
// is wrong, one more wrong one assumed, which keeps few decisions from looking safe. Above 1, which
// no confidence reaches, where no threshold does.
double ThresholdForRisk(std::vector<ScoredDecision> decisions, double risk);

// Split conformal prediction (Vovk, Gammerman and Shafer 2005; Papadopoulos et al. 2002): from the
// probabilities that held-out examples' own labels got, the probability p such that the set of all
// labels of at least p contains the label of a new exchangeable example with probability `coverage`
// or more. 0, so that every label is in the set, where there are too few examples for that.
double ProbabilityForCoverage(std::vector<double> label_probabilities, double coverage);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_DECISION_QUALITY_H_
