// Calibration error, thresholds for a risk, and the coverage of prediction sets.
#include "router/decision_quality.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <random>
#include <vector>

namespace octogate::router {
namespace {

class DecisionQualityTest : public testing::Test {
 protected:
  DecisionQualityTest() { std::cout << "seed " << seed_ << "\n"; }

  double Uniform() { return std::uniform_real_distribution<double>(0, 1)(random_); }
  std::vector<ScoredDecision> RandomDecisions() {
    std::vector<ScoredDecision> decisions(random_() % 200);
    for (ScoredDecision& decision : decisions) {
      // Coarse, so that some are equal and some are at the borders of bins.
      decision.confidence = std::round(Uniform() * 30) / 30;
      decision.right = Uniform() < decision.confidence;
      if (random_() % 4 == 0) decision.importance = 1 + 9 * Uniform();
    }
    return decisions;
  }

  const unsigned seed_ = std::random_device()();
  std::mt19937 random_{seed_};
};

TEST_F(DecisionQualityTest, CalibrationErrorIsThatOfItsDefinition) {
  for (int round = 0; round < 200; ++round) {
    const std::vector<ScoredDecision> decisions = RandomDecisions();
    const int bins = 1 + static_cast<int>(random_() % 20);
    double expected = 0;
    for (int bin = 0; bin < bins; ++bin) {
      double count = 0, right = 0, confidence = 0;
      for (const ScoredDecision& decision : decisions) {
        const double place = decision.confidence * bins;
        const bool inside = place >= bin && (place < bin + 1 || bin == bins - 1);
        if (!inside) continue;
        ++count;
        right += decision.right;
        confidence += decision.confidence;
      }
      if (count == 0) continue;
      expected += count / static_cast<double>(decisions.size()) *
                  std::abs(right / count - confidence / count);
    }
    ASSERT_NEAR(ExpectedCalibrationError(decisions, bins), expected, 1e-9) << "seed " << seed_;
  }
}

TEST_F(DecisionQualityTest, ThresholdForRiskIsTheLeastThatKeepsIt) {
  for (int round = 0; round < 200; ++round) {
    const std::vector<ScoredDecision> decisions = RandomDecisions();
    const double risk = Uniform();
    const auto keeps = [&](double threshold) {
      double taken = 1, wrong = 1;
      for (const ScoredDecision& decision : decisions) {
        if (decision.confidence < threshold) continue;
        taken += decision.importance;
        wrong += decision.right ? 0 : decision.importance;
      }
      // Sums of other orders.
      return wrong <= risk * taken + 1e-9;
    };
    const double threshold = ThresholdForRisk(decisions, risk);
    if (threshold <= 1) {
      ASSERT_TRUE(keeps(threshold)) << "seed " << seed_;
    }
    for (const ScoredDecision& decision : decisions) {
      if (decision.confidence < threshold) {
        ASSERT_FALSE(keeps(decision.confidence)) << "seed " << seed_;
      }
    }
  }
}

TEST_F(DecisionQualityTest, SetsCoverTheLabelsOfExchangeableExamples) {
  // Over many draws of held-out and new examples the label is in the set at least as often as
  // stated. By Hoeffding's inequality the mean of `kRounds` draws is under its expectation by the
  // margin with a probability of at most 1e-12.
  constexpr int kRounds = 20'000;
  const double margin = std::sqrt(std::log(1e12) / (2.0 * kRounds));
  for (const double coverage : {0.5, 0.9, 0.99}) {
    for (const size_t held_out : {5U, 37U, 150U}) {
      double covered = 0;
      for (int round = 0; round < kRounds; ++round) {
        std::vector<double> probabilities(held_out + 1);
        // Half of them coarse: ties only add to sets.
        for (double& p : probabilities) {
          p = Uniform();
          if (random_() % 2 == 0) p = std::round(p * 8) / 8;
        }
        const double fresh = probabilities.back();
        probabilities.pop_back();
        covered += fresh >= ProbabilityForCoverage(probabilities, coverage);
      }
      ASSERT_GE(covered / kRounds, coverage - margin) << held_out << ", seed " << seed_;
    }
  }
}

TEST_F(DecisionQualityTest, SetsAreNoLargerThanNeeded) {
  // Of n different probabilities the set has to let in ceil((n + 1) * coverage) of n + 1.
  std::vector<double> probabilities;
  for (int i = 1; i <= 99; ++i) probabilities.push_back(i / 100.0);
  EXPECT_DOUBLE_EQ(ProbabilityForCoverage(probabilities, 0.9), 0.10);
  EXPECT_DOUBLE_EQ(ProbabilityForCoverage(probabilities, 0.5), 0.50);
  EXPECT_EQ(ProbabilityForCoverage(probabilities, 0.999), 0) << "too few for that";
  EXPECT_EQ(ProbabilityForCoverage({}, 0.5), 0);
}

TEST_F(DecisionQualityTest, NothingIsKnownOfNoDecisions) {
  EXPECT_EQ(ExpectedCalibrationError({}), 0);
  EXPECT_GT(ThresholdForRisk({}, 0.5), 1);
}

}  // namespace
}  // namespace octogate::router
