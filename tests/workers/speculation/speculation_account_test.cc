// Which requests draft, by what drafting has earned.
#include "workers/speculation/speculation_account.h"

#include <gtest/gtest.h>

namespace octogate::workers {
namespace {

// A request of so many steps of one second, in which drafts gain so much where it is awake.
struct Course {
  int awake = 0;  // steps
  double gain = 0;
};
Course RunRequest(SpeculationAccount& account, int steps, double gain, int sequences = 1) {
  RequestAccount request;
  Course run;
  account.Begin(request);
  for (int i = 0; i < steps; ++i) {
    if (request.asleep && !account.Wakes(sequences, request)) continue;
    ++run.awake;
    run.gain += gain;
    account.Step(1, gain, sequences, request);
  }
  account.End(request);
  return run;
}

TEST(SpeculationAccountTest, WhoGainsNeverSleeps) {
  SpeculationAccount account;
  for (int i = 0; i < 50; ++i) EXPECT_EQ(RunRequest(account, 200, 0.01).awake, 200);
}

TEST(SpeculationAccountTest, ALossThatIsHardlyOneIsBorne) {
  SpeculationAccount account;
  for (int i = 0; i < 50; ++i) EXPECT_EQ(RunRequest(account, 200, -0.004).awake, 200);
}

TEST(SpeculationAccountTest, LossesAreBounded) {
  SpeculationAccount account;
  // The first one has to find out.
  const Course first = RunRequest(account, 10000, -0.2);
  EXPECT_GE(first.awake, SpeculationAccount::kEvidence);
  EXPECT_LE(first.awake, 10000 / 20);
  Course all;
  for (int i = 0; i < 1000; ++i) {
    const Course run = RunRequest(account, 100, -0.2);
    all.awake += run.awake;
    all.gain += run.gain;
  }
  EXPECT_GT(all.awake, 0) << "it is tried again";
  EXPECT_GT(all.gain / (1000 * 100), -0.01);
}

TEST(SpeculationAccountTest, RequestsTooShortToFallAsleepAreCountedToo) {
  SpeculationAccount account;
  Course all;
  for (int i = 0; i < 1000; ++i) all.awake += RunRequest(account, 10, -0.2).awake;
  EXPECT_LT(all.awake, 1000 * 10 / 10);
  EXPECT_GT(all.awake, 0);
}

TEST(SpeculationAccountTest, WhatPaysComesBack) {
  SpeculationAccount account;
  for (int i = 0; i < 100; ++i) RunRequest(account, 100, -0.1);
  int requests = 0;
  while (RunRequest(account, 100, 0.5).awake < 100 && requests < 1000) ++requests;
  for (int i = 0; i < 200; ++i) RunRequest(account, 100, 0.5);
  EXPECT_EQ(RunRequest(account, 100, 0.5).awake, 100);
  EXPECT_LT(requests, 100);
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
  account.Begin(request);
  int steps = 0;
  while (!account.Step(1, -0.5, 64, request)) ++steps;
  EXPECT_LT(steps, SpeculationAccount::kEvidence);
  EXPECT_TRUE(request.asleep);
  EXPECT_FALSE(account.Wakes(64, request));
  EXPECT_FALSE(account.Wakes(17, request));
  EXPECT_TRUE(account.Wakes(16, request));
  EXPECT_FALSE(request.asleep);
}

TEST(SpeculationAccountTest, WhoKeepsLosingSleepsLongerEachTime) {
  SpeculationAccount account;
  RequestAccount request;
  account.Begin(request);
  int last = 0;
  for (int round = 0; round < 3; ++round) {
    while (!account.Step(1, -0.5, 1, request)) {
    }
    int slept = 1;
    while (!account.Wakes(1, request)) ++slept;
    EXPECT_GT(slept, last);
    last = slept;
  }
}

}  // namespace
}  // namespace octogate::workers
