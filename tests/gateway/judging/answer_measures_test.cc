#include "gateway/judging/answer_measures.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace octogate::gateway {
namespace {

v1::WorkerGenerateResponse Message(const std::vector<double>& probabilities, bool detailed) {
  v1::WorkerGenerateResponse message;
  double sum = 0;
  for (const double p : probabilities) {
    message.add_ids(1);
    sum += std::log(p);
    if (detailed) message.add_logprobs()->set_logprob(std::log(p));
  }
  message.set_logprob_sum(sum);
  return message;
}

TEST(AnswerMeasuresTest, MeanIsGeometric) {
  AnswerMeasures measures;
  EXPECT_EQ(measures.mean(), 1);
  measures.Add(Message({0.5, 0.5}, false));
  measures.Add(Message({0.125}, false));
  EXPECT_NEAR(measures.mean(), std::cbrt(0.5 * 0.5 * 0.125), 1e-12);
  EXPECT_EQ(measures.minimum(), measures.mean()) << "nothing is known of single tokens";
  EXPECT_EQ(measures.tokens(), 3);
}

TEST(AnswerMeasuresTest, MinimumIsTheLeastProbableToken) {
  AnswerMeasures measures;
  measures.Add(Message({0.9, 0.2}, true));
  measures.Add(Message({0.7}, true));
  EXPECT_NEAR(measures.minimum(), 0.2, 1e-12);
}

TEST(AnswerMeasuresTest, EntropyCountsTheRestAsOne) {
  v1::WorkerGenerateResponse message = Message({0.5}, true);
  for (const double p : {0.5, 0.25}) {
    message.mutable_logprobs(0)->add_top()->set_logprob(std::log(p));
  }
  AnswerMeasures measures;
  measures.Add(message);
  const double entropy = 0.5 * std::log(2) + 0.25 * std::log(4) + 0.25 * std::log(4);
  EXPECT_NEAR(measures.entropy(), std::exp(-entropy), 1e-12);
  // A token that nothing else could have been.
  v1::WorkerGenerateResponse sure = Message({1}, true);
  sure.mutable_logprobs(0)->add_top()->set_logprob(0);
  AnswerMeasures certain;
  certain.Add(sure);
  EXPECT_EQ(certain.entropy(), 1);
}

TEST(AnswerMeasuresTest, NotANumberIsLow) {
  AnswerMeasures measures;
  v1::WorkerGenerateResponse message = Message({0.5}, true);
  message.mutable_logprobs(0)->set_logprob(std::numeric_limits<double>::quiet_NaN());
  message.set_logprob_sum(std::numeric_limits<double>::quiet_NaN());
  measures.Add(message);
  EXPECT_FALSE(measures.mean() >= 0);
  EXPECT_FALSE(measures.minimum() >= 0);
  EXPECT_FALSE(measures.entropy() >= 0);
}

TEST(AnswerMeasuresTest, WhatIsSetIsEveryMeasure) {
  AnswerMeasures measures;
  for (const double confidence : {0.0, 0.25, 1.0}) {
    measures.Set(confidence);
    EXPECT_NEAR(measures.mean(), confidence, 1e-12);
    EXPECT_NEAR(measures.minimum(), confidence, 1e-12);
    EXPECT_NEAR(measures.entropy(), confidence, 1e-12);
  }
}

}  // namespace
}  // namespace octogate::gateway
