// What a call costs the others by a worker's measured steps, and that no worker can say anything
// that breaks it.
#include "gateway/call_cost.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

namespace octogate::gateway {
namespace {

using Points = std::vector<std::pair<int, double>>;

v1::WorkerInfoResponse Info(const Points& rows, const Points& sequences) {
  v1::WorkerInfoResponse info;
  for (const auto& [count, seconds] : rows) {
    v1::WorkerStepCost& cost = *info.add_step_costs();
    cost.set_rows(count);
    cost.set_seconds(seconds);
  }
  for (const auto& [count, seconds] : sequences) {
    v1::WorkerStepTerm& term = *info.add_step_sequence_costs();
    term.set_count(count);
    term.set_seconds(seconds);
  }
  return info;
}

TEST(MeasuredBytesPerCallTest, IsWhatRowsOfAnswersCostInRowsOfPrompts) {
  // A row of a prompt takes 1 ms, and so does a sequence more: 256 tokens of four bytes.
  EXPECT_NEAR(*MeasuredBytesPerCall(Info({{1, 0.010}, {64, 0.073}}, {{1, 0}, {8, 0}})), 1024, 1e-6);
  // Half of it, and three times as much with what logits take.
  EXPECT_NEAR(*MeasuredBytesPerCall(
                  Info({{1, 0.010}, {9, 0.014}, {64, 0.050}, {128, 0.114}}, {{1, 0}, {9, 0}})),
              512, 1e-6);
  EXPECT_NEAR(*MeasuredBytesPerCall(Info({{1, 0.010}, {64, 0.073}}, {{1, 0}, {8, 0.014}})), 3072,
              1e-6);
  // Between points: 5 sequences take 10 + 4 / 8 * 4 ms.
  EXPECT_NEAR(*MeasuredBytesPerCall(
                  Info({{1, 0.010}, {9, 0.014}, {64, 0.050}, {128, 0.114}}, {{1, 0}, {5, 0}})),
              512, 1e-6);
}

TEST(MeasuredBytesPerCallTest, DoesNotDependOnHowFastTheMachineWas) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(0.1, 1);
  for (int i = 0; i < 100; ++i) {
    Points rows = {{1, uniform(random)}};
    for (const int count : {2, 4, 8, 16, 32, 64}) {
      rows.push_back({count, rows.back().second + uniform(random)});
    }
    Points sequences = {{1, 0}, {16, uniform(random)}};
    const double bytes = *MeasuredBytesPerCall(Info(rows, sequences));
    const double factor = uniform(random);
    for (Points* points : {&rows, &sequences}) {
      for (auto& [count, seconds] : *points) seconds *= factor;
    }
    EXPECT_NEAR(*MeasuredBytesPerCall(Info(rows, sequences)), bytes, 1e-6 * bytes);
  }
}

TEST(MeasuredBytesPerCallTest, NeedsRowsOfPromptsAndMoreThanOneSequence) {
  EXPECT_EQ(MeasuredBytesPerCall({}), std::nullopt);
  EXPECT_EQ(MeasuredBytesPerCall(Info({{1, 0.01}}, {{1, 0}})), std::nullopt);
  EXPECT_EQ(MeasuredBytesPerCall(Info({{1, 0.01}, {16, 0.02}}, {{1, 0}, {4, 0}})), std::nullopt);
  EXPECT_EQ(MeasuredBytesPerCall(Info({{1, 0.01}, {64, 0.02}}, {{1, 0}})), std::nullopt);
  EXPECT_EQ(MeasuredBytesPerCall(Info({{1, 0.01}, {64, 0.02}}, {})), std::nullopt);
  // Rows of prompts that cost nothing, as noise may have it.
  EXPECT_EQ(MeasuredBytesPerCall(Info({{1, 0.01}, {32, 0.02}, {64, 0.02}}, {{1, 0}, {4, 0}})),
            std::nullopt);
}

TEST(MeasuredBytesPerCallTest, IsBoundedWhateverIsSaid) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  constexpr double kSeconds[] = {0,
                                 -1,
                                 1e-300,
                                 1e300,
                                 0.01,
                                 0.02,
                                 std::numeric_limits<double>::infinity(),
                                 std::numeric_limits<double>::quiet_NaN()};
  constexpr int kCounts[] = {-5, 0, 1, 2, 33, 64, 1 << 30, std::numeric_limits<int>::max()};
  for (int i = 0; i < 5000; ++i) {
    Points points[2];
    for (Points& some : points) {
      for (auto left = random() % 5; left > 0; --left) {
        some.push_back({kCounts[random() % 8], kSeconds[random() % 8]});
      }
    }
    const auto bytes = MeasuredBytesPerCall(Info(points[0], points[1]));
    if (bytes.has_value()) {
      EXPECT_GE(*bytes, 64);
      EXPECT_LE(*bytes, 16384);
    }
  }
}

}  // namespace
}  // namespace octogate::gateway
