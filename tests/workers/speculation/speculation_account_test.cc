// Which requests draft, by what drafting has earned.
#include "workers/speculation/speculation_account.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

namespace octogate::workers {
namespace {

// What became of a request.
struct Course {
  int awake = 0;  // steps
  double gain = 0;
};

// A step of one second of a request in which drafts gain so much if it is awake.
void RunStep(SpeculationAccount& account, double gain, int sequences, RequestAccount& request,
             Course& course) {
  if (request.asleep && !account.Wakes(1, sequences, request)) return;
  ++course.awake;
  course.gain += gain;
  account.Step(1, gain, sequences, request);
}

Course RunRequest(SpeculationAccount& account, int steps, double gain, int sequences = 1) {
  RequestAccount request;
  Course course;
  for (int i = 0; i < steps; ++i) RunStep(account, gain, sequences, request, course);
  account.End(request);
  return course;
}

// Requests of so many steps each, so many of them at the same time.
Course RunBatches(SpeculationAccount& account, int batches, int sequences, int steps, double gain) {
  Course course;
  for (int batch = 0; batch < batches; ++batch) {
    std::vector<RequestAccount> requests(static_cast<size_t>(sequences));
    for (int i = 0; i < steps; ++i) {
      for (RequestAccount& request : requests) RunStep(account, gain, sequences, request, course);
    }
    for (RequestAccount& request : requests) account.End(request);
  }
  return course;
}

// What it took to learn a long prompt is spent whether or not drafts are used now: whether they pay
// for it is seen when the request has ended, and decides of the next one.
TEST(SpeculationAccountTest, WhatWasLearnedIsUsedWhateverItCost) {
  for (const double learning : {5.0, 500.0}) {
    SpeculationAccount account;
    RequestAccount request;
    Course course;
    ASSERT_TRUE(account.Wakes(1, 1, request));
    request.learning = learning;
    for (int i = 0; i < 1000; ++i) RunStep(account, 0.1, 1, request, course);
    EXPECT_EQ(course.awake, 1000);
    account.End(request);
    RequestAccount next;
    EXPECT_EQ(account.Wakes(1, 1, next), learning < 100) << "1000 steps have gained 100 s";
  }
}

TEST(SpeculationAccountTest, WhoGainsNeverSleeps) {
  SpeculationAccount account;
  for (int i = 0; i < 50; ++i) EXPECT_EQ(RunRequest(account, 200, 0.01).awake, 200);
}

TEST(SpeculationAccountTest, ALossThatIsHardlyOneIsBorne) {
  SpeculationAccount account;
  for (int i = 0; i < 50; ++i) EXPECT_EQ(RunRequest(account, 200, -0.004).awake, 200);
}

// Whatever a draft costs, however long requests are and however many run together. The first
// requests have to find out.
TEST(SpeculationAccountTest, LossesAreBoundedByAShareOfTheTime) {
  for (const double loss : {0.02, 0.2, 1.0, 29.0}) {
    for (const int steps : {10, 100, 2000}) {
      for (const int sequences : {1, 16}) {
        SpeculationAccount account;
        RunBatches(account, 10, sequences, steps, -loss);
        const int batches = 2'000'000 / steps / sequences;
        const Course all = RunBatches(account, batches, sequences, steps, -loss);
        EXPECT_GT(all.awake, 0) << "it is tried again: " << loss;
        EXPECT_GT(all.gain, -1.1 * SpeculationAccount::kBearableLoss * 2'000'000)
            << loss << " a step, " << steps << " steps, " << sequences << " at a time";
      }
    }
  }
}

TEST(SpeculationAccountTest, WhatIsCheapToTryIsTriedMoreOften) {
  SpeculationAccount cheap;
  SpeculationAccount dear;
  EXPECT_GT(RunBatches(cheap, 1000, 1, 100, -0.01).awake,
            2 * RunBatches(dear, 1000, 1, 100, -0.5).awake);
}

TEST(SpeculationAccountTest, WhoLosesMuchDoesNotWaitForEvidence) {
  SpeculationAccount account;
  RequestAccount request;
  ASSERT_TRUE(account.Wakes(1, 1, request));
  EXPECT_TRUE(account.Step(1, -29, 1, request)) << "a draft as long as 29 steps";

  SpeculationAccount other;
  request = {};
  ASSERT_TRUE(other.Wakes(1, 1, request));
  int steps = 1;
  while (!other.Step(1, -1, 1, request)) ++steps;
  EXPECT_LE(steps, SpeculationAccount::kMostLost + 1);
}

TEST(SpeculationAccountTest, WhileAllLoseOneTriesAtATime) {
  SpeculationAccount account;
  RunBatches(account, 1, 16, 100, -0.1);
  std::vector<RequestAccount> requests(16);
  bool tried = false;
  for (int i = 0; i < 100'000; ++i) {
    int awake = 0;
    for (RequestAccount& request : requests) {
      Course course;
      RunStep(account, -0.1, 16, request, course);
      awake += request.asleep ? 0 : 1;
    }
    ASSERT_LE(awake, 1);
    tried = tried || awake == 1;
  }
  EXPECT_TRUE(tried);
}

// A new tenant's first answer only teaches drafters.
TEST(SpeculationAccountTest, WhoHasToLearnFirstIsNotGivenUp) {
  SpeculationAccount account;
  for (int tenant = 0; tenant < 50; ++tenant) {
    EXPECT_EQ(RunRequest(account, 31, -0.015).awake, 31);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(RunRequest(account, 31, 0.01).awake, 31);
  }
}

TEST(SpeculationAccountTest, WhatPaysComesBack) {
  SpeculationAccount account;
  RunBatches(account, 100, 4, 100, -0.1);
  int batches = 0;
  while (RunBatches(account, 1, 4, 100, 0.5).awake < 400 && batches < 1000) ++batches;
  EXPECT_LT(batches, 100);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(RunBatches(account, 1, 4, 100, 0.5).awake, 400);
}

TEST(SpeculationAccountTest, OneThatTriesWithSuccessWakesOthersBeforeItEnds) {
  SpeculationAccount account;
  RunBatches(account, 1, 4, 100, -0.1);
  EXPECT_GT(RunBatches(account, 1, 4, 100'000, 0.5).awake, 200'000);
}

TEST(SpeculationAccountTest, ATryThatComesToNothingLeavesRoomForTheNext) {
  SpeculationAccount account;
  RunBatches(account, 1, 4, 100, -0.1);
  // Cancelled before its first step.
  for (int i = 0; i < 100'000; ++i) {
    RequestAccount cancelled;
    account.Wakes(1, 4, cancelled);
    account.End(cancelled);
  }
  RequestAccount sleeper;
  EXPECT_TRUE(account.Wakes(1, 4, sleeper));
}

TEST(SpeculationAccountTest, AWellPayingKindOfRequestIsNotGivenUpForAnother) {
  SpeculationAccount account;
  for (int i = 0; i < 100; ++i) {
    EXPECT_GE(RunRequest(account, 100, 1).awake, 100);
    EXPECT_LE(RunRequest(account, 100, -0.1).awake, 100);
  }
}

TEST(SpeculationAccountTest, WhoSleepsWakesUpWhenTheLoadFalls) {
  SpeculationAccount account;
  RequestAccount request;
  ASSERT_TRUE(account.Wakes(1, 64, request));
  while (!account.Step(1, -0.5, 64, request)) {
  }
  EXPECT_TRUE(request.asleep);
  EXPECT_FALSE(account.Wakes(1, 64, request));
  EXPECT_FALSE(account.Wakes(1, 32, request));
  EXPECT_TRUE(account.Wakes(1, 16, request));
  EXPECT_FALSE(request.asleep);
}

// Sequences of a batch end one after the other, so that each comes down to few.
TEST(SpeculationAccountTest, BatchesThatComeDownToFewLoseNoMoreThanOthers) {
  SpeculationAccount account;
  const auto run = [&](int batches) {
    Course course;
    double time = 0;
    for (int batch = 0; batch < batches; ++batch) {
      std::vector<RequestAccount> requests(16);
      while (!requests.empty()) {
        for (int i = 0; i < 5; ++i) {
          for (RequestAccount& request : requests) {
            RunStep(account, -0.1, static_cast<int>(requests.size()), request, course);
          }
          time += static_cast<double>(requests.size());
        }
        account.End(requests.back());
        requests.pop_back();
      }
    }
    return course.gain / time;
  };
  run(100);
  EXPECT_GT(run(1000), -1.2 * SpeculationAccount::kBearableLoss);
}

TEST(SpeculationAccountTest, WhatPaysWithFewIsDraftedThoughItDoesNotWithMany) {
  SpeculationAccount account;
  RunBatches(account, 100, 16, 100, -0.1);
  EXPECT_GE(RunRequest(account, 1000, 0.5).awake, 1000);
  EXPECT_LE(RunBatches(account, 10, 16, 100, -0.1).awake, 200) << "still known of many";
  EXPECT_GE(RunRequest(account, 1000, 0.5).awake, 1000);
}

TEST(SpeculationAccountTest, AHitchDoesNotPutItToSleepForGood) {
  SpeculationAccount account;
  RequestAccount request;
  ASSERT_TRUE(account.Wakes(1, 1, request));
  EXPECT_TRUE(account.Step(1, -1e9, 1, request));
  int slept = 1;
  while (!account.Wakes(1, 1, request) && slept < 1'000'000) ++slept;
  EXPECT_LE(slept, SpeculationAccount::kLongestWait);
}

}  // namespace
}  // namespace octogate::workers
