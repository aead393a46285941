#include "workers/engine/step_cost.h"

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/run_requests.h"
#include "tests/workers/engine/test_models.h"

namespace octogate::workers {
namespace {

TEST(CostCurveTest, IsStraightBetweenPointsAndBehindThem) {
  CostCurve curve;
  EXPECT_EQ(curve.At(5), 0);
  curve.Add(1, 2);
  EXPECT_EQ(curve.At(0), 2);
  EXPECT_EQ(curve.At(100), 2);
  curve.Add(3, 4);
  curve.Add(5, 10);
  EXPECT_EQ(curve.At(1), 2);
  EXPECT_EQ(curve.At(2), 3);
  EXPECT_EQ(curve.At(4), 7);
  EXPECT_EQ(curve.At(5), 10);
  EXPECT_EQ(curve.At(7), 16);
}

TEST(CostCurveTest, DoesNotFall) {
  CostCurve curve;
  curve.Add(1, 5);
  curve.Add(2, 3);
  curve.Add(4, 9);
  EXPECT_EQ(curve.At(2), 5);
  EXPECT_EQ(curve.At(3), 7);
}

// A machine that is as the model says: bound by memory up to 16 rows, then by arithmetic.
double TimeOf(const StepProbe& probe) {
  const int rows = probe.sequences * probe.rows;
  const double attended =
      probe.sequences * (probe.rows * double(probe.context) + probe.rows * (probe.rows + 1) / 2.0);
  return 1e-3 * std::max(1.0, rows / 16.0) + 1e-8 * (attended - 1) + 1e-5 * (probe.sequences - 1);
}

TEST(MeasureStepCostTest, FindsTheCurveOfAMachineThatFollowsTheModel) {
  const StepCost cost =
      MeasureStepCost({.max_rows = 300, .max_sequences = 24, .max_context = 5000}, 10, 0, TimeOf);
  ASSERT_TRUE(cost.known());
  for (int rows : {1, 2, 16, 64, 256, 300}) {
    EXPECT_NEAR(cost.rows.At(rows), 1e-3 * std::max(1.0, rows / 16.0), 1e-8) << rows;
  }
  EXPECT_NEAR(cost.context.At(2001), 2e-5, 1e-9);
  EXPECT_NEAR(cost.context.At(20001), 2e-4, 1e-9);
  EXPECT_NEAR(cost.Seconds({.rows = 24, .sequences = 24, .attended = 24 * 1000}),
              1e-3 * 1.5 + 1e-8 * 24000 + 23e-5, 1e-7);
}

// A device that first loads, then captures a step, and only then runs it as it will: each kind of
// step starts anew.
TEST(MeasureStepCostTest, LeavesOutTheRunsThatAStepIsWarmedWith) {
  constexpr int kWarmRuns = 2;
  std::map<std::tuple<int, int, int>, int> runs;
  const StepCost cost =
      MeasureStepCost({.max_rows = 300, .max_sequences = 24, .max_context = 5000}, 1e4, kWarmRuns,
                      [&](const StepProbe& probe) {
                        const int before = runs[{probe.sequences, probe.rows, probe.context}]++;
                        return TimeOf(probe) + (before < kWarmRuns ? 1.0 : 0.0);
                      });
  const StepCost expected =
      MeasureStepCost({.max_rows = 300, .max_sequences = 24, .max_context = 5000}, 1e4, 0, TimeOf);
  for (const auto curve : {&StepCost::rows, &StepCost::context, &StepCost::sequences}) {
    ASSERT_EQ((cost.*curve).points().size(), (expected.*curve).points().size());
    for (size_t i = 0; i < (cost.*curve).points().size(); ++i) {
      EXPECT_EQ((cost.*curve).points()[i].seconds, (expected.*curve).points()[i].seconds);
    }
  }
}

TEST(MeasureStepCostTest, ShortStepsAreMeasuredOftenEnoughForWhatDisturbsThem) {
  constexpr StepProbeLimits kLimits{.max_rows = 64, .max_sequences = 8, .max_context = 500};
  std::map<std::tuple<int, int, int>, int> runs;
  const StepCost cost = MeasureStepCost(kLimits, 10, 0, [&](const StepProbe& probe) {
    const int before = runs[{probe.sequences, probe.rows, probe.context}]++;
    return TimeOf(probe) * (before < 6 ? 1.5 : 1.0);
  });
  const StepCost expected = MeasureStepCost(kLimits, 10, 0, TimeOf);
  for (int rows : {1, 2, 4, 16, 64}) EXPECT_EQ(cost.rows.At(rows), expected.rows.At(rows)) << rows;
  for (const auto& [probe, count] : runs) EXPECT_LE(count, 20) << std::get<1>(probe);
}

TEST(MeasureStepCostTest, KeepsTheBudgetButForWhatItCannotKnow) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  for (int trial = 0; trial < 200; ++trial) {
    const StepProbeLimits limits{.max_rows = 1 + static_cast<int>(random() % 500),
                                 .max_sequences = 1,
                                 .max_context = 1 + static_cast<int>(random() % 5000)};
    const double budget = 1e-4 * (1 + random() % 2000);
    const int warm_runs = static_cast<int>(random() % 4);
    double spent = 0;
    double longest = 0;
    const StepCost cost = MeasureStepCost(limits, budget, warm_runs, [&](const StepProbe& probe) {
      EXPECT_LE(probe.sequences * probe.rows, limits.max_rows);
      EXPECT_LE(probe.context + probe.rows, limits.max_context);
      const double seconds = TimeOf(probe);
      spent += seconds;
      longest = std::max(longest, seconds);
      return seconds;
    });
    EXPECT_TRUE(cost.known());
    EXPECT_LE(spent, std::max(budget, (3 + warm_runs) * TimeOf({})) + longest);
  }
  EXPECT_FALSE(MeasureStepCost({}, 0, 0, [](const StepProbe&) { return 1.0; }).known());
}

TEST(RowBudgetTest, IsTheLargestStepWithinTheLimit) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const StepCost cost =
      MeasureStepCost({.max_rows = 256, .max_sequences = 16, .max_context = 4096}, 10, 0, TimeOf);
  const auto pick = [&](int from, int to) {
    return std::uniform_int_distribution<int>(from, to)(random);
  };
  for (int trial = 0; trial < 500; ++trial) {
    const int decoding = pick(1, 16);
    const StepShape decode{.rows = decoding, .sequences = decoding, .attended = pick(0, 100000)};
    const int64_t context = pick(0, 3000);
    const StepTimeLimit limit{.seconds = pick(0, 1) * 1e-4 * pick(1, 300),
                              .slowdown = pick(0, 1) * 0.1 * pick(5, 100)};
    const int least = std::min(decoding + 16, 256);
    const int budget = RowBudget(cost, limit, decode, context, 16, 256);
    const auto keeps = [&](int rows) {
      const double seconds =
          cost.Seconds({.rows = rows,
                        .sequences = decoding + 1,
                        .attended = decode.attended + (rows - decoding) * context});
      return (limit.seconds == 0 || seconds <= limit.seconds) &&
             (limit.slowdown == 0 || seconds <= limit.slowdown * cost.Seconds(decode));
    };
    ASSERT_GE(budget, least);
    ASSERT_LE(budget, 256);
    if (budget > least) {
      ASSERT_TRUE(keeps(budget));
    }
    if (budget < 256) {
      ASSERT_FALSE(keeps(budget + 1));
    }
  }
  EXPECT_EQ(RowBudget({}, {.seconds = 1e-9}, {.rows = 3}, 0, 16, 256), 256);
}

TEST(PrefillSecondsTest, IsTheSumOverTheStepsThatComputeIt) {
  StepCost cost;
  cost.rows.Add(1, 10);
  cost.rows.Add(101, 110);  // 9 + rows
  cost.context.Add(1, 0);
  cost.context.Add(100'001, 1000);  // (attended - 1) / 100
  EXPECT_EQ(PrefillSeconds(cost, 0, 8), 0);
  // Chunks of 8, 8 and 4, which attend to 36, 8 * 8 + 36 and 16 * 4 + 10 positions.
  EXPECT_NEAR(PrefillSeconds(cost, 20, 8), (9 + 8) * 2 + 9 + 4 + (35 + 99 + 73) / 100.0, 1e-9);
  // Fewer steps cost less.
  EXPECT_LT(PrefillSeconds(cost, 20, 20), PrefillSeconds(cost, 20, 8));
}

TEST(StepPaceTest, FollowsHowLongStepsTakeByTheTimeThatPasses) {
  StepPace pace;
  EXPECT_EQ(pace.ratio(), 1);
  pace.Measured(0.001, 0.002);
  EXPECT_LT(pace.ratio(), 1.01) << "one short step tells little";
  for (int i = 0; i < 100; ++i) pace.Measured(0.1, 0.2);
  EXPECT_NEAR(pace.ratio(), 2, 0.05);
  StepPace rarely;
  for (int i = 0; i < 10; ++i) rarely.Measured(1, 2);
  EXPECT_NEAR(rarely.ratio(), pace.ratio(), 0.05) << "as many seconds in longer steps";
  for (int i = 0; i < 1000; ++i) pace.Measured(0.1, 1e9);
  EXPECT_LE(pace.ratio(), 10);
  for (const double odd : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    const double before = pace.ratio();
    pace.Measured(odd, 1);
    pace.Measured(1, odd);
    EXPECT_EQ(pace.ratio(), before);
  }
}

TEST(EngineStepCostTest, IsMeasuredByCreateWhereItIsAskedFor) {
  const auto without = MakeEngine(FixturePath("llama"), {});
  EXPECT_FALSE(without->step_cost().known());
  const auto engine = MakeEngine(FixturePath("llama"), {.step_cost_time = absl::Milliseconds(300)});
  ASSERT_NE(engine, nullptr);
  const StepCost& cost = engine->step_cost();
  ASSERT_TRUE(cost.known());
  EXPECT_GT(cost.Seconds({}), 0);
  EXPECT_GE(cost.Seconds({.rows = 64, .sequences = 4, .attended = 1000}), cost.Seconds({}));
}

TEST(EngineStepCostTest, ALimitWithoutAMeasuredCostIsRefused) {
  const auto create = [](const EngineOptions& options) {
    return Engine::Create(OpenCheckpoint(FixturePath("llama")), nullptr, kernels::MakeCpuBackend(),
                          options)
        .status()
        .code();
  };
  EXPECT_EQ(create({.max_step_slowdown = 2}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({.step_cost_time = absl::Milliseconds(1), .max_step_slowdown = -1}),
            absl::StatusCode::kInvalidArgument);
}

// The cost differs from run to run, and with it the chunks.
TEST(EngineStepCostTest, AnswersDoNotDependOnIt) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto alone = MakeEngine(FixturePath("qwen3"), {.max_sequences = 1});
  std::vector<GenerateRequest> requests(16);
  for (GenerateRequest& request : requests) {
    request.prompt =
        RandomIds(random, 1 + static_cast<int>(random() % 150), alone->config().vocab_size);
    request.max_tokens = 1 + static_cast<int>(random() % 30);
    request.sampling.logprobs = 0;
    request.ignore_eos = true;
  }
  const std::vector<Outcome> expected = RunAll(*alone, requests, false);
  for (double slowdown : {0.0, 1.01, 2.0, 8.0}) {
    SCOPED_TRACE(slowdown);
    const auto engine = MakeEngine(FixturePath("qwen3"),
                                   {.max_sequences = 6,
                                    .max_rows_per_step = 100,
                                    .page_size = 3,
                                    .step_cost_time = absl::Milliseconds(100),
                                    .max_step_slowdown = slowdown},
                                   2);
    ASSERT_NE(engine, nullptr);
    ExpectSameAnswers(RunAll(*engine, requests, true), expected);
  }
}

}  // namespace
}  // namespace octogate::workers
