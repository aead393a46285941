// What is learned of outcomes: better than shares where queries tell something, the shares where
// they tell nothing.
#include "router/outcome_predictor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "router/answer_predictor.h"
#include "router/logistic_fit.h"

namespace octogate::router {
namespace {

class OutcomePredictorTest : public testing::Test {
 protected:
  OutcomePredictorTest() : seed_(std::random_device{}()), random_(seed_) {
    RecordProperty("seed", std::to_string(seed_));
  }

  double Uniform() { return std::uniform_real_distribution<double>(0, 1)(random_); }

  // A few words of a subject among words of no subject.
  std::string RandomQuery(int subject) {
    std::string text;
    for (int w = 0; w < 12; ++w) {
      text += w % 3 == 0
                  ? " subject" + std::to_string(subject) + "word" + std::to_string(random_() % 10)
                  : " word" + std::to_string(random_() % 200);
    }
    return text;
  }

  // `right(subject, member)` is the true probability.
  template <typename Right>
  OutcomeSet RandomOutcomes(size_t count, size_t members, const Right& right, bool domains) {
    OutcomeSet outcomes;
    outcomes.members.resize(members);
    for (size_t q = 0; q < count; ++q) {
      const int subject = static_cast<int>(random_() % 4);
      QueryOutcomes& query = outcomes.queries.emplace_back();
      query.query = RandomQuery(subject);
      if (domains) query.domain = "domain" + std::to_string(subject);
      for (size_t m = 0; m < members; ++m) {
        query.members.push_back(
            {.known = true, .correct = Uniform() < right(subject, static_cast<int>(m))});
      }
    }
    return outcomes;
  }

  // Mean loss in nats of the predictor, and of shares alone, on outcomes that it has not seen.
  struct Losses {
    double predicted = 0;
    double shares = 0;
  };
  static Losses LossesOn(const OutcomePredictor& predictor, const OutcomeSet& outcomes) {
    Losses losses;
    const double count = static_cast<double>(outcomes.queries.size() * predictor.members());
    for (const QueryOutcomes& query : outcomes.queries) {
      const std::vector<double> logits = predictor.Logits(query.query);
      for (size_t m = 0; m < logits.size(); ++m) {
        const double sign = query.members[m].correct ? -1 : 1;
        losses.predicted += std::log1p(std::exp(sign * logits[m])) / count;
        losses.shares += std::log1p(std::exp(sign * predictor.prior(m))) / count;
      }
    }
    return losses;
  }

  const unsigned seed_;
  std::mt19937 random_;
};

TEST_F(OutcomePredictorTest, BeatsSharesWhereQueriesTellSomething) {
  SCOPED_TRACE(seed_);
  const auto right = [](int subject, int member) { return subject == member ? 0.9 : 0.2; };
  for (const bool domains : {false, true}) {
    const auto predictor =
        OutcomePredictor::Train(RandomOutcomes(1500, 4, right, domains), absl::InfiniteFuture());
    ASSERT_TRUE(predictor.ok()) << predictor.status();
    const OutcomeSet unseen = RandomOutcomes(500, 4, right, false);
    const Losses losses = LossesOn(**predictor, unseen);
    // The entropy of the truth is 0.46, that of the shares 0.66.
    EXPECT_LT(losses.predicted, losses.shares - 0.05) << domains;
    // The member that knows the subject comes first.
    int best = 0;
    for (int subject = 0; subject < 4; ++subject) {
      for (int round = 0; round < 25; ++round) {
        const std::vector<double> logits = (*predictor)->Logits(RandomQuery(subject));
        best += std::max_element(logits.begin(), logits.end()) - logits.begin() == subject ? 1 : 0;
      }
    }
    EXPECT_GT(best, 85) << domains;
  }
}

TEST_F(OutcomePredictorTest, SaysWhatIsHardForAllMembers) {
  SCOPED_TRACE(seed_);
  const auto right = [](int subject, int) { return subject < 2 ? 0.8 : 0.3; };
  const auto predictor =
      OutcomePredictor::Train(RandomOutcomes(1500, 3, right, false), absl::InfiniteFuture());
  ASSERT_TRUE(predictor.ok()) << predictor.status();
  const Losses losses = LossesOn(**predictor, RandomOutcomes(500, 3, right, false));
  EXPECT_LT(losses.predicted, losses.shares - 0.03);
}

TEST_F(OutcomePredictorTest, IsTheSharesWhereQueriesTellNothing) {
  SCOPED_TRACE(seed_);
  const auto right = [](int, int member) { return 0.3 + 0.2 * member; };
  const OutcomeSet outcomes = RandomOutcomes(1500, 3, right, true);
  const auto predictor = OutcomePredictor::Train(outcomes, absl::InfiniteFuture());
  ASSERT_TRUE(predictor.ok()) << predictor.status();
  for (int m = 0; m < 3; ++m) {
    EXPECT_NEAR(Sigmoid((*predictor)->prior(static_cast<size_t>(m))), right(0, m), 0.06);
  }
  const Losses losses = LossesOn(**predictor, RandomOutcomes(1000, 3, right, false));
  EXPECT_LT(losses.predicted, losses.shares + 0.01);
}

TEST_F(OutcomePredictorTest, ProbabilitiesMeanWhatTheySay) {
  SCOPED_TRACE(seed_);
  const auto right = [](int subject, int member) { return subject == member ? 0.8 : 0.4; };
  const auto predictor =
      OutcomePredictor::Train(RandomOutcomes(2000, 4, right, true), absl::InfiniteFuture());
  ASSERT_TRUE(predictor.ok()) << predictor.status();
  double expected = 0;
  double happened = 0;
  double count = 0;
  for (const QueryOutcomes& query : RandomOutcomes(1500, 4, right, false).queries) {
    const std::vector<double> logits = (*predictor)->Logits(query.query);
    for (size_t m = 0; m < logits.size(); ++m) {
      if (Sigmoid(logits[m]) < 0.6) continue;
      expected += Sigmoid(logits[m]);
      happened += query.members[m].correct ? 1 : 0;
      count += 1;
    }
  }
  ASSERT_GT(count, 200);
  EXPECT_NEAR(happened / count, expected / count, 0.08);
}

TEST_F(OutcomePredictorTest, EqualOutcomesGiveEqualPredictors) {
  const auto right = [](int subject, int member) { return subject == member ? 0.9 : 0.2; };
  const OutcomeSet outcomes = RandomOutcomes(200, 4, right, true);
  const auto a = OutcomePredictor::Train(outcomes, absl::InfiniteFuture());
  const auto b = OutcomePredictor::Train(outcomes, absl::InfiniteFuture());
  ASSERT_TRUE(a.ok() && b.ok());
  for (int i = 0; i < 20; ++i) {
    const std::string query = RandomQuery(i % 4);
    EXPECT_EQ((*a)->Logits(query), (*b)->Logits(query));
  }
}

TEST_F(OutcomePredictorTest, FewOrPartialOutcomesAreNoReasonToFail) {
  OutcomeSet outcomes;
  outcomes.members = {"a", "b", "never"};
  outcomes.queries.push_back(
      {.query = "one", .domain = "d", .members = {{.known = true, .correct = true}, {}, {}}});
  outcomes.queries.push_back({.query = "two", .domain = "", .members = {{}, {.known = true}, {}}});
  const auto predictor = OutcomePredictor::Train(outcomes, absl::InfiniteFuture());
  ASSERT_TRUE(predictor.ok()) << predictor.status();
  EXPECT_TRUE((*predictor)->knows(0));
  EXPECT_FALSE((*predictor)->knows(2));
  for (const char* query : {"one", "", "something else", "\xFF\xFE"}) {
    const std::vector<double> logits = (*predictor)->Logits(query);
    EXPECT_GT(logits[0], logits[1]) << query;
    EXPECT_TRUE(std::isfinite(logits[0]) && std::isfinite(logits[1])) << query;
    EXPECT_TRUE(std::isnan(logits[2])) << query;
  }
  const AnswerPredictor answers(outcomes, **predictor);
  const auto verdict = answers.OfTwo({.member = 0, .answer = "x", .query_logit = 1},
                                     {.member = 1, .answer = "x", .query_logit = 0});
  EXPECT_TRUE(verdict.agree);
  EXPECT_GT(verdict.logit, 1);
}

TEST_F(OutcomePredictorTest, RefusesWhatIsNothingOrTooMuch) {
  OutcomeSet outcomes;
  outcomes.members = {"a"};
  EXPECT_EQ(OutcomePredictor::Train(outcomes, absl::InfiniteFuture()).status().code(),
            absl::StatusCode::kInvalidArgument);
  outcomes.members.resize(OutcomePredictor::kMaxMembers + 1);
  EXPECT_EQ(OutcomePredictor::Train(outcomes, absl::InfiniteFuture()).status().code(),
            absl::StatusCode::kResourceExhausted);
  const OutcomeSet some = RandomOutcomes(
      100, 2, [](int, int) { return 0.5; }, true);
  EXPECT_EQ(OutcomePredictor::Train(some, absl::InfinitePast()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

// Answers of two members that are right together more often than apart.
TEST_F(OutcomePredictorTest, AgreementAndLengthRaiseTheProbabilityOfAnAnswer) {
  SCOPED_TRACE(seed_);
  OutcomeSet outcomes;
  outcomes.members = {"a", "b"};
  int agree = 0;
  int agree_right = 0;
  for (int q = 0; q < 2000; ++q) {
    QueryOutcomes& query = outcomes.queries.emplace_back();
    query.query = RandomQuery(0);
    std::string answers[2];
    const auto right = static_cast<char>('A' + random_() % 6);
    for (int m = 0; m < 2; ++m) {
      const bool correct = Uniform() < 0.5;
      const auto wrong = static_cast<char>('A' + (right - 'A' + 1 + random_() % 5) % 6);
      answers[m] = std::string(1, correct ? right : wrong);
      query.members.push_back({.known = true,
                               .correct = correct,
                               .has_answer = true,
                               .answer = answers[m],
                               .output_tokens = Uniform() < (correct ? 0.8 : 0.2) ? 10 : 100});
    }
    agree += answers[0] == answers[1] ? 1 : 0;
    agree_right += answers[0] == answers[1] && answers[0][0] == right ? 1 : 0;
  }
  const auto predictor = OutcomePredictor::Train(outcomes, absl::InfiniteFuture());
  ASSERT_TRUE(predictor.ok()) << predictor.status();
  const AnswerPredictor answers(outcomes, **predictor);
  const double logit = (*predictor)->Logits(RandomQuery(0))[0];
  const auto given = [&](size_t member, std::string_view answer, int tokens) {
    return GivenAnswer{
        .member = member, .answer = answer, .output_tokens = tokens, .query_logit = logit};
  };
  EXPECT_NEAR(Sigmoid(answers.OfAnswer(given(0, "?", 10))), 0.8, 0.08);
  EXPECT_NEAR(Sigmoid(answers.OfAnswer(given(0, "?", 100))), 0.2, 0.08);
  EXPECT_LT(Sigmoid(answers.OfAnswer(given(0, "", 10))), 0.01);
  double together = 0;
  for (const int first : {10, 100}) {
    for (const int second : {10, 100}) {
      const auto verdict = answers.OfTwo(given(0, "A", first), given(1, "A", second));
      EXPECT_TRUE(verdict.agree);
      const double weight_right = (first == 10 ? 0.8 : 0.2) * (second == 10 ? 0.8 : 0.2);
      together += weight_right * Sigmoid(verdict.logit);
    }
  }
  EXPECT_GT(together, 0.9 * agree_right / agree);
  // Of different answers the short one is the better one, whoever gave it.
  EXPECT_FALSE(answers.OfTwo(given(0, "B", 10), given(1, "C", 100)).second);
  EXPECT_TRUE(answers.OfTwo(given(0, "B", 100), given(1, "C", 10)).second);
  EXPECT_TRUE(answers.OfTwo(given(0, "", 10), given(1, "C", 100)).second);
}

// Two queries on which both answered say little of pairs: what is known of each member stays.
TEST_F(OutcomePredictorTest, FewPairsLeaveWhatIsKnownOfTheFirst) {
  SCOPED_TRACE(seed_);
  OutcomeSet outcomes = RandomOutcomes(
      600, 2, [](int, int member) { return member == 0 ? 0.95 : 0.9; }, false);
  for (size_t q = 0; q < 2; ++q) {
    for (MemberOutcome& outcome : outcomes.queries[q].members) {
      outcome.has_answer = true;
      outcome.answer = q == 0 ? "same" : outcome.correct ? "right" : "wrong";
    }
  }
  const auto predictor = OutcomePredictor::Train(outcomes, absl::InfiniteFuture());
  ASSERT_TRUE(predictor.ok()) << predictor.status();
  const AnswerPredictor answers(outcomes, **predictor);
  const std::vector<double> logits = (*predictor)->Logits(RandomQuery(1));
  const GivenAnswer first = {.member = 0, .answer = "x", .query_logit = logits[0]};
  const GivenAnswer same = {.member = 1, .answer = "x", .query_logit = logits[1]};
  const GivenAnswer other = {.member = 1, .answer = "y", .query_logit = logits[1]};
  const double alone = Sigmoid(answers.OfAnswer(first));
  ASSERT_GT(alone, 0.85);
  EXPECT_NEAR(Sigmoid(answers.OfTwo(first, same).logit), alone, 0.1);
  EXPECT_NEAR(Sigmoid(answers.OfTwo(first, other).logit), alone, 0.1);
  EXPECT_NEAR(Sigmoid(answers.IfAsked(0, answers.OfAnswer(first), 1, logits[1])), alone, 0.1);
  EXPECT_NEAR(Sigmoid(answers.OfPair(0, logits[0], 1, logits[1])), Sigmoid(logits[0]), 0.1);
}

TEST_F(OutcomePredictorTest, LogisticFitsHaveNoSlopeLeft) {
  SCOPED_TRACE(seed_);
  for (int round = 0; round < 20; ++round) {
    const size_t dimension = 1 + random_() % 5;
    LogisticRows rows(dimension);
    std::vector<float> row(dimension);
    for (int i = 0; i < 200; ++i) {
      for (float& x : row) x = static_cast<float>(2 * Uniform() - 1);
      rows.Add(row.data(), static_cast<float>(Uniform() - 0.5), Uniform() < Sigmoid(2 * row[0]));
    }
    LogisticPenalty penalty{.strength = 0.1 + Uniform(),
                            .towards = std::vector<double>(dimension, 0.5),
                            .signed_weights = std::vector<bool>(dimension)};
    for (size_t d = 0; d < dimension; ++d) penalty.signed_weights[d] = random_() % 2 == 0;
    const std::vector<double> weights = FitLogistic(rows, penalty);
    for (size_t d = 0; d < dimension; ++d) {
      double slope = -penalty.strength * (weights[d] - 0.5);
      for (size_t i = 0; i < rows.size(); ++i) {
        double logit = rows.offsets[i];
        for (size_t e = 0; e < dimension; ++e) {
          logit += weights[e] * rows.features[i * dimension + e];
        }
        slope += (rows.labels[i] - Sigmoid(logit)) * rows.features[i * dimension + d];
      }
      if (weights[d] == 0 && !penalty.signed_weights[d]) continue;
      EXPECT_NEAR(slope, 0, 1e-2);
      EXPECT_TRUE(weights[d] >= 0 || penalty.signed_weights[d]);
    }
  }
}

}  // namespace
}  // namespace octogate::router
