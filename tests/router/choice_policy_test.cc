// Policies against a search through all members, by the definitions alone.
#include "router/choice_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "absl/time/time.h"
#include "router/logistic_fit.h"

namespace octogate::router {
namespace {

class ChoicePolicyTest : public testing::Test {
 protected:
  ChoicePolicyTest() : seed_(std::random_device{}()), random_(seed_) {
    RecordProperty("seed", std::to_string(seed_));
  }

  size_t Below(size_t bound) { return random_() % bound; }

  // Few different values, so that members are often equal in one respect.
  std::vector<MemberEstimate> RandomMembers() {
    std::vector<MemberEstimate> members(1 + Below(6));
    for (MemberEstimate& member : members) {
      member.logit = static_cast<double>(Below(5)) - 2;
      member.cost = static_cast<double>(Below(4));
      member.duration_ms = static_cast<double>(Below(4)) * 10;
      member.allowed = Below(4) != 0;
    }
    return members;
  }

  static bool Keeps(const MemberEstimate& member, const ChoiceGoal& goal) {
    return goal.policy == v1::CHOICE_POLICY_BEST_UNDER ? member.cost <= goal.bound
                                                       : Sigmoid(member.logit) >= goal.bound;
  }

  // Whether `a` is strictly better for the policy than `b`; both keep its bound, or neither does.
  static bool Better(const MemberEstimate& a, const MemberEstimate& b, const ChoiceGoal& goal,
                     bool keep) {
    if (keep && goal.policy == v1::CHOICE_POLICY_CHEAPEST_ABOVE && a.cost != b.cost) {
      return a.cost < b.cost;
    }
    if (keep && goal.policy == v1::CHOICE_POLICY_FASTEST_ABOVE && a.duration_ms != b.duration_ms) {
      if (a.duration_ms == 0 || b.duration_ms == 0) return b.duration_ms == 0;
      return a.duration_ms < b.duration_ms;
    }
    if (a.logit != b.logit) return a.logit > b.logit;
    return a.cost < b.cost;
  }

  const unsigned seed_;
  std::mt19937 random_;
};

TEST_F(ChoicePolicyTest, TakesWhatNoOtherMemberIsBetterThan) {
  SCOPED_TRACE(seed_);
  int chosen_count = 0;
  int unreached = 0;
  for (int round = 0; round < 20'000; ++round) {
    const std::vector<MemberEstimate> members = RandomMembers();
    ChoiceGoal goal{.policy = static_cast<v1::ChoicePolicy>(1 + Below(3))};
    goal.bound = goal.policy == v1::CHOICE_POLICY_BEST_UNDER ? static_cast<double>(Below(4)) - 0.5
                                                             : static_cast<double>(Below(11)) / 10;
    const Chosen chosen = ChooseMember(members, goal);
    const auto may = [&](const MemberEstimate& member) {
      return member.allowed && (goal.policy != v1::CHOICE_POLICY_BEST_UNDER || Keeps(member, goal));
    };
    ASSERT_EQ(chosen.member >= 0, std::any_of(members.begin(), members.end(), may));
    if (chosen.member < 0) continue;
    ++chosen_count;
    const MemberEstimate& taken = members[static_cast<size_t>(chosen.member)];
    ASSERT_TRUE(may(taken));
    ASSERT_EQ(chosen.reached, Keeps(taken, goal));
    unreached += chosen.reached ? 0 : 1;
    for (const MemberEstimate& other : members) {
      if (!may(other)) continue;
      if (!chosen.reached) {
        ASSERT_FALSE(Keeps(other, goal));
      } else if (!Keeps(other, goal)) {
        continue;
      }
      ASSERT_FALSE(Better(other, taken, goal, chosen.reached));
    }
  }
  EXPECT_GT(chosen_count, 1000);
  EXPECT_GT(unreached, 100);
}

// Outcomes in which the second member knows what the first does not.
OutcomeSet Complementary() {
  OutcomeSet outcomes;
  outcomes.members = {"first", "second", "third"};
  std::mt19937 random(7);
  for (int q = 0; q < 600; ++q) {
    QueryOutcomes& query = outcomes.queries.emplace_back();
    query.query = "query number " + std::to_string(q);
    const bool even = q % 2 == 0;
    const char right = static_cast<char>('A' + random() % 4);
    for (int m = 0; m < 3; ++m) {
      // A right answer of the first two is short, a wrong one long.
      const bool correct = m == 0 ? even : m == 1 ? !even : random() % 3 == 0;
      const char letter = correct ? right : static_cast<char>('A' + (right - 'A' + 1 + m) % 4);
      query.members.push_back({.known = true,
                               .correct = correct,
                               .has_answer = true,
                               .answer = std::string(1, letter),
                               .output_tokens = correct || m == 2 ? 10 : 1000});
    }
  }
  return outcomes;
}

class TwoCallsTest : public testing::Test {
 protected:
  TwoCallsTest()
      : outcomes_(Complementary()),
        predictor_(*OutcomePredictor::Train(outcomes_, absl::InfiniteFuture())),
        answers_(outcomes_, *predictor_),
        logits_(predictor_->Logits("query number 3")) {
    for (const double logit : logits_) members_.push_back({.logit = logit, .cost = 1});
  }

  GivenAnswer Given(size_t member, std::string_view answer, int64_t tokens) const {
    return {.member = member,
            .answer = answer,
            .output_tokens = tokens,
            .query_logit = logits_[member]};
  }

  const OutcomeSet outcomes_;
  const std::shared_ptr<const OutcomePredictor> predictor_;
  const AnswerPredictor answers_;
  const std::vector<double> logits_;
  std::vector<MemberEstimate> members_;
  const ChoiceGoal goal_{.policy = v1::CHOICE_POLICY_BEST_UNDER, .bound = 10};
};

TEST_F(TwoCallsTest, ThePairThatCompletesEachOtherIsAsked) {
  const int first = ChooseFirst(members_, goal_, answers_).member;
  EXPECT_TRUE(first == 0 || first == 1) << first;
  // A doubtful answer of the one is looked up with the other.
  const double doubtful = answers_.OfAnswer(Given(0, "A", 1000));
  EXPECT_LT(Sigmoid(doubtful), 0.2);
  EXPECT_EQ(ChooseSecond(members_, goal_, answers_, 0, doubtful, 1, 1).member, 1);
  const auto verdict = answers_.OfTwo(Given(0, "A", 1000), Given(1, "B", 10));
  EXPECT_TRUE(verdict.second);
  EXPECT_GT(Sigmoid(verdict.logit), 0.8);
}

TEST_F(TwoCallsTest, WhatIsSureIsNotLookedUp) {
  const double sure = answers_.OfAnswer(Given(0, "A", 10));
  EXPECT_GT(Sigmoid(sure), 0.8);
  EXPECT_LT(ChooseSecond(members_, goal_, answers_, 0, sure, 1, 0.8).member, 0);
}

TEST_F(TwoCallsTest, BudgetsAndDrainedMembersBoundTheSecondCall) {
  const double doubtful = answers_.OfAnswer(Given(0, "A", 1000));
  EXPECT_LT(
      ChooseSecond(members_, {.policy = goal_.policy, .bound = 1.5}, answers_, 0, doubtful, 1, 1)
          .member,
      0);
  members_[1].allowed = false;
  EXPECT_NE(ChooseSecond(members_, goal_, answers_, 0, doubtful, 1, 1).member, 1);
}

TEST_F(TwoCallsTest, APolicyOfCostTakesTheCheapestThatHelpsEnough) {
  members_[1].cost = 5;
  members_[2].cost = 1;
  const double doubtful = answers_.OfAnswer(Given(0, "A", 1000));
  const ChoiceGoal modest{.policy = v1::CHOICE_POLICY_CHEAPEST_ABOVE, .bound = 0.01};
  const ChoiceGoal strict{.policy = v1::CHOICE_POLICY_CHEAPEST_ABOVE, .bound = 0.6};
  EXPECT_EQ(ChooseSecond(members_, modest, answers_, 0, doubtful, 1, 1).member, 2);
  EXPECT_EQ(ChooseSecond(members_, strict, answers_, 0, doubtful, 1, 1).member, 1);
}

}  // namespace
}  // namespace octogate::router
