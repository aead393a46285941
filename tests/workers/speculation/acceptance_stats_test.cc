#include "workers/speculation/acceptance_stats.h"

#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace octogate::workers {
namespace {

class AcceptanceStatsTest : public ::testing::Test {
 protected:
  // What is expected of a child of the root that its drafter gives `probability`.
  double Calibrated(float probability, const SequenceAcceptance& sequence, int drafter = 0) {
    DraftTree tree;
    tree.Add(-1, 1, probability, 1);
    stats_.Calibrate(drafter, sequence, tree);
    return tree.nodes[0].probability;
  }
  // Lets `share` of many drafts of probability 0.8 be right.
  void Learn(double share, int count, SequenceAcceptance& sequence) {
    std::bernoulli_distribution right(share);
    for (int i = 0; i < count; ++i) {
      DraftTree tree;
      tree.Add(-1, 1, 0.8f, 1);
      const int32_t chosen = right(random_) ? 1 : 2;
      stats_.Record(0, tree, {&chosen, 1}, sequence);
    }
  }

  const uint32_t seed_ = std::random_device{}();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, absl::StrCat("seed ", seed_)};
  std::mt19937 random_{seed_};
  AcceptanceStats stats_;
};

TEST_F(AcceptanceStatsTest, DraftersAreBelievedUntilThereIsEvidence) {
  EXPECT_FLOAT_EQ(Calibrated(0.3f, {}), 0.3f);
}

TEST_F(AcceptanceStatsTest, ExpectationsComeToWhatHappensInManySequences) {
  for (const double share : {0.2, 0.9, 0.05}) {
    for (int i = 0; i < 200; ++i) {
      SequenceAcceptance sequence;
      Learn(share, 50, sequence);
    }
    EXPECT_NEAR(Calibrated(0.8f, {}), share, 0.12) << "of new sequences";
    EXPECT_DOUBLE_EQ(Calibrated(0.8f, {}, 1), 0.8f) << "of another drafter";
  }
}

TEST_F(AcceptanceStatsTest, ASequenceMayBeEasierOrHarderThanOthers) {
  SequenceAcceptance hard;
  for (int i = 0; i < 300; ++i) {
    SequenceAcceptance easy;
    Learn(0.8, 30, easy);
  }
  Learn(0.02, 60, hard);
  EXPECT_LT(Calibrated(0.8f, hard), 0.5 * Calibrated(0.8f, {}));
}

TEST_F(AcceptanceStatsTest, OnlyNodesThatTheAnswerCameToAreJudged) {
  DraftTree tree;
  const int wrong = tree.Add(-1, 1, 0.5f, 1);
  tree.Add(wrong, 2, 0.5f, 1);
  const std::vector<int32_t> chosen = {7, 2};
  SequenceAcceptance sequence;
  for (int i = 0; i < 100; ++i) stats_.Record(0, tree, chosen, sequence);
  DraftTree calibrated = tree;
  stats_.Calibrate(0, {}, calibrated);
  EXPECT_LT(calibrated.nodes[0].probability, 0.05f);
  EXPECT_FLOAT_EQ(calibrated.nodes[1].probability, 0.5f) << "below a node that was wrong";
}

TEST_F(AcceptanceStatsTest, ProbabilitiesStayProbabilities) {
  SequenceAcceptance sequence;
  DraftTree tree;
  tree.Add(-1, 1, 0.01f, 1);
  const int32_t chosen = 1;
  for (int i = 0; i < 1000; ++i) stats_.Record(0, tree, {&chosen, 1}, sequence);
  EXPECT_LE(Calibrated(1, sequence), 1);
  EXPECT_GT(Calibrated(0.01f, sequence), 0.5);
}

}  // namespace
}  // namespace octogate::workers
