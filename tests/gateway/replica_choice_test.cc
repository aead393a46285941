// The choice among replicas is bounded, fair and the same for the same arguments, whatever replicas
// say of themselves.
#include "gateway/replica_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace octogate::gateway {
namespace {

constexpr int64_t kPrompt = 8192;

class ReplicaChoiceTest : public testing::Test {
 protected:
  ReplicaChoiceTest() { RecordProperty("seed", static_cast<int>(seed_)); }

  int Uniform(int from, int to) { return std::uniform_int_distribution<int>(from, to)(random_); }

  std::vector<ReplicaView> RandomViews() {
    std::vector<ReplicaView> views(static_cast<size_t>(Uniform(1, 12)));
    for (ReplicaView& view : views) {
      view.load = Uniform(0, 20);
      view.unread_bytes = Uniform(0, 3) == 0 ? Uniform(0, 100'000) : 0;
      view.matched_bytes = Uniform(0, 1) == 0 ? 0 : Uniform(0, static_cast<int>(kPrompt));
      view.room = Uniform(0, 8);
    }
    return views;
  }

  const uint32_t seed_ = std::random_device()();
  std::mt19937_64 random_{seed_};
  testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
};

// The rule as it is written: at most 1 + epsilon times the mean of all but the most loaded.
double Bound(const std::vector<ReplicaView>& views, size_t i, double epsilon) {
  std::vector<double> loads;
  for (const ReplicaView& view : views) loads.push_back(view.load);
  std::sort(loads.begin(), loads.end());
  const double sum = std::accumulate(loads.begin(), loads.end() - 1, 0.0);
  const double mean = sum / static_cast<double>(loads.size() - 1);
  return std::max(std::ceil((1 + epsilon) * (mean + 1)), views[i].room);
}

TEST_F(ReplicaChoiceTest, TheOnlyOneGetsTheCall) {
  const ReplicaChoice choice = ChooseReplica(std::vector<ReplicaView>{{.load = 1e9}}, kPrompt, 7);
  EXPECT_EQ(choice.index, 0U);
  EXPECT_EQ(choice.reason, ReplicaChoiceReason::kOnly);
}

TEST_F(ReplicaChoiceTest, TheSameArgumentsGiveTheSameChoice) {
  for (int i = 0; i < 1000; ++i) {
    const std::vector<ReplicaView> views = RandomViews();
    const uint64_t random = random_();
    const ReplicaChoice choice = ChooseReplica(views, kPrompt, random);
    const ReplicaChoice again = ChooseReplica(views, kPrompt, random);
    EXPECT_EQ(choice.index, again.index);
    EXPECT_EQ(choice.reason, again.reason);
    EXPECT_LT(choice.index, views.size());
  }
}

TEST_F(ReplicaChoiceTest, NoneIsTakenForItsPrefixBeyondTheBound) {
  const ReplicaChoiceOptions options;
  for (int i = 0; i < 5000; ++i) {
    const std::vector<ReplicaView> views = RandomViews();
    const ReplicaChoice choice = ChooseReplica(views, kPrompt, random_(), options);
    if (choice.reason != ReplicaChoiceReason::kPrefix) continue;
    EXPECT_GT(views[choice.index].matched_bytes, 0);
    EXPECT_LE(views[choice.index].load + 1, Bound(views, choice.index, options.epsilon));
  }
}

// Among idle replicas the one that holds most gets all calls.
TEST_F(ReplicaChoiceTest, TheLongestPrefixIsTakenWhereLoadsAreEqual) {
  for (int i = 0; i < 1000; ++i) {
    std::vector<ReplicaView> views(static_cast<size_t>(Uniform(2, 12)));
    const double load = Uniform(0, 10);
    for (ReplicaView& view : views) {
      view.load = load;
      view.matched_bytes = Uniform(0, 4000);
    }
    const auto best = static_cast<size_t>(Uniform(0, static_cast<int>(views.size()) - 1));
    views[best].matched_bytes = kPrompt;
    const ReplicaChoice choice = ChooseReplica(views, kPrompt, random_());
    EXPECT_EQ(choice.index, best);
    EXPECT_EQ(choice.reason, ReplicaChoiceReason::kPrefix);
  }
}

// A prompt that costs little to read is not worth waiting for.
TEST_F(ReplicaChoiceTest, AShortPrefixIsNotWorthALongQueue) {
  const std::vector<ReplicaView> views = {
      {.load = 1, .unread_bytes = 100'000, .matched_bytes = 512}, {.load = 1}};
  for (int i = 0; i < 100; ++i) EXPECT_EQ(ChooseReplica(views, 1024, random_()).index, 1U);
}

TEST_F(ReplicaChoiceTest, WithoutPrefixesTheMoreLoadedOfTwoIsNeverTaken) {
  const std::vector<ReplicaView> views = {{.load = 3}, {.load = 2}};
  for (int i = 0; i < 100; ++i) {
    const ReplicaChoice choice = ChooseReplica(views, kPrompt, random_());
    EXPECT_EQ(choice.index, 1U);
    EXPECT_EQ(choice.reason, ReplicaChoiceReason::kLoad);
  }
}

// What is drawn is what AppraiseReplicas says: the same rule by another way.
TEST_F(ReplicaChoiceTest, ProbabilitiesAreThoseOfTheDraws) {
  constexpr int kDraws = 20'000;
  for (int i = 0; i < 10; ++i) {
    const std::vector<ReplicaView> views = RandomViews();
    const std::vector<ReplicaAppraisal> appraisals = AppraiseReplicas(views, kPrompt);
    std::vector<int> count(views.size());
    for (int draw = 0; draw < kDraws; ++draw) {
      ++count[ChooseReplica(views, kPrompt, random_()).index];
    }
    double sum = 0;
    for (size_t r = 0; r < views.size(); ++r) {
      sum += appraisals[r].probability;
      // More than seven standard deviations.
      EXPECT_NEAR(count[r] / double{kDraws}, appraisals[r].probability, 0.025);
      if (views.size() > 1) {
        EXPECT_EQ(appraisals[r].within_bound, views[r].load + 1 <= Bound(views, r, 0.25));
      }
    }
    EXPECT_NEAR(sum, 1, 1e-9);
  }
}

// Calls that never end, all with a prompt that some replicas claim to hold as a whole, and with
// whatever load they claim to have from others.
TEST_F(ReplicaChoiceTest, LyingReplicasGetNoMoreThanTheirShare) {
  for (int round = 0; round < 20; ++round) {
    const auto count = static_cast<size_t>(Uniform(2, 12));
    const auto liars = static_cast<size_t>(Uniform(1, static_cast<int>(count)));
    std::vector<double> calls(count);
    for (int i = 0; i < 2000; ++i) {
      std::vector<ReplicaView> views(count);
      for (size_t r = 0; r < count; ++r) {
        views[r].load = calls[r];
        if (r < liars) views[r].matched_bytes = std::numeric_limits<int64_t>::max();
      }
      ++calls[ChooseReplica(views, kPrompt, random_()).index];
    }
    const double mean = 2000 / static_cast<double>(count);
    EXPECT_LE(*std::max_element(calls.begin(), calls.end()), 1.25 * (mean + 1) + 8);
    // Nobody starves either.
    EXPECT_GE(*std::min_element(calls.begin(), calls.end()), mean / 4);
  }
}

TEST_F(ReplicaChoiceTest, NumbersThatMakeNoSenseAreHarmless) {
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<double> numbers = {
      -1, -infinity, infinity, std::numeric_limits<double>::quiet_NaN(), 1e300, 0, 3};
  for (int i = 0; i < 5000; ++i) {
    std::vector<ReplicaView> views(static_cast<size_t>(Uniform(2, 5)));
    std::vector<ObservedReplica> observed(views.size());
    const auto any = [&] { return numbers[static_cast<size_t>(Uniform(0, 6))]; };
    for (size_t r = 0; r < views.size(); ++r) {
      observed[r] = {.own_calls = static_cast<double>(Uniform(0, 5)),
                     .own_unread_bytes = 0,
                     .has_report = true,
                     .report = {.calls = any(), .unread_bytes = any(), .age_seconds = any()}};
      views[r].matched_bytes = Uniform(0, 1) == 0 ? std::numeric_limits<int64_t>::min() : 1 << 30;
    }
    EstimateLoads(observed, views);
    for (ReplicaView& view : views) {
      EXPECT_TRUE(std::isfinite(view.load)) << view.load;
      EXPECT_GE(view.load, 0);
      if (Uniform(0, 3) == 0) view.load = any();
      if (Uniform(0, 3) == 0) view.unread_bytes = any();
    }
    EXPECT_LT(ChooseReplica(views, i % 2 == 0 ? kPrompt : -5, random_()).index, views.size());
    double sum = 0;
    for (const ReplicaAppraisal& appraisal : AppraiseReplicas(views, kPrompt)) {
      sum += appraisal.probability;
    }
    EXPECT_NEAR(sum, 1, 1e-9);
  }
}

TEST_F(ReplicaChoiceTest, OwnCallsCountInFullAndThoseOfOthersByTheirAge) {
  std::vector<ReplicaView> views(3);
  const auto report = [](double calls, double own, double age) {
    return ReportedLoad{.calls = calls, .own_calls = own, .age_seconds = age};
  };
  // Fresh: 4, 2 and 2 calls of others beside the own ones.
  std::vector<ObservedReplica> observed = {
      {.own_calls = 3, .has_report = true, .report = report(7, 3, 0)},
      {.own_calls = 0, .has_report = true, .report = report(2, 0, 0)},
      {.own_calls = 1, .has_report = true, .report = report(3, 1, 0)}};
  EstimateLoads(observed, views);
  EXPECT_DOUBLE_EQ(views[0].load, 7);
  EXPECT_DOUBLE_EQ(views[1].load, 2);
  EXPECT_DOUBLE_EQ(views[2].load, 3);
  // Very old: others are taken to be spread evenly.
  for (ObservedReplica& replica : observed) replica.report.age_seconds = 1e5;
  EstimateLoads(observed, views);
  EXPECT_NEAR(views[0].load - views[1].load, 3, 0.01);
  EXPECT_NEAR(views[2].load - views[1].load, 1, 0.01);
  // What this gateway has sent since, others have too: four times as much, as before.
  for (ObservedReplica& replica : observed) replica.report.age_seconds = 0;
  observed[1].own_calls = 2;
  EstimateLoads(observed, views);
  EXPECT_DOUBLE_EQ(views[1].load, 2 + 2 + 2 * 4);
}

TEST_F(ReplicaChoiceTest, OneThatOverstatesItsLoadDoesNotMakeRoomForOthers) {
  std::vector<ObservedReplica> observed(4);
  for (ObservedReplica& replica : observed) {
    replica.has_report = true;
    replica.report.age_seconds = 3;
  }
  observed[0].report.calls = 1e12;
  observed[1].own_calls = 20;
  observed[1].report.own_calls = 20;
  observed[1].report.calls = 20;
  std::vector<ReplicaView> views(4);
  views[1].matched_bytes = kPrompt;
  EstimateLoads(observed, views);
  const std::vector<ReplicaAppraisal> appraisals = AppraiseReplicas(views, kPrompt);
  EXPECT_FALSE(appraisals[1].within_bound);
  EXPECT_LT(appraisals[0].probability, 0.01);
}

}  // namespace
}  // namespace octogate::gateway
