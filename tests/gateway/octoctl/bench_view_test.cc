// Figures of `octoctl bench`: percentiles and means as plain loops give them, and what scripts
// read.
#include "gateway/octoctl/bench_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "gateway/octoctl/output.h"

namespace octogate::octoctl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(RouteTimesTest, PercentilesAndMeansAreThoseOfSorting) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 100; ++round) {
    RouteTimes times;
    std::vector<int64_t> all(1 + random() % 300);
    double sum = 0, decisions = 0, read = 0, written = 0;
    for (int64_t& microseconds : all) {
      microseconds = random() % 50;
      sum += static_cast<double>(microseconds);
      v1::RouteResponse response;
      for (size_t d = random() % 3; d > 0; --d) {
        v1::Decision& decision = *response.add_decisions();
        decision.set_duration_us(random() % 20);
        decision.mutable_usage()->set_prompt_tokens(random() % 9);
        decision.mutable_usage()->set_completion_tokens(random() % 5);
        decisions += static_cast<double>(decision.duration_us());
        read += static_cast<double>(decision.usage().prompt_tokens());
        written += static_cast<double>(decision.usage().completion_tokens());
      }
      times.Add(microseconds, response);
    }
    const auto count = static_cast<double>(all.size());
    std::sort(all.begin(), all.end());
    ASSERT_EQ(times.calls(), all.size());
    EXPECT_NEAR(times.mean_us(), sum / count, 1e-9);
    EXPECT_NEAR(times.decision_us(), decisions / count, 1e-9);
    EXPECT_NEAR(times.prompt_tokens(), read / count, 1e-9);
    EXPECT_NEAR(times.completion_tokens(), written / count, 1e-9);
    for (const int percent : {0, 1, 50, 99, 100}) {
      const int64_t value = times.Percentile(percent);
      const auto not_above = std::upper_bound(all.begin(), all.end(), value) - all.begin();
      const auto below = std::lower_bound(all.begin(), all.end(), value) - all.begin();
      EXPECT_GE(100.0 * static_cast<double>(not_above), percent * count);
      EXPECT_TRUE(below == 0 || 100.0 * static_cast<double>(below) < percent * count);
    }
  }
}

TEST(RouteTimesTest, WithoutCallsEverythingIsZero) {
  const RouteTimes times;
  EXPECT_EQ(times.Percentile(99), 0);
  EXPECT_EQ(times.mean_us(), 0);
}

std::vector<RouteBenchResult> TwoSuites() {
  std::vector<RouteBenchResult> results(2);
  results[0].suite = "a \"b\".tsv";
  results[1].suite = "none.tsv";
  v1::EvaluateTokensResponse& evaluation = results[0].evaluation;
  evaluation.set_router("main");
  evaluation.set_graph_version(3);
  evaluation.set_in_scope(40);
  evaluation.set_accuracy(0.875);
  evaluation.set_calibration_error(0.0625);
  v1::HeadEvaluation& head = *evaluation.add_heads();
  head.set_head("lexical");
  head.set_threshold(0.5);
  head.set_asked(40);
  head.set_decided(30);
  head.set_decided_accuracy(0.9);
  results[0].times.Add(1500, {});
  results[1].evaluation.set_out_of_scope(4);
  results[1].evaluation.set_out_of_scope_recall(0.75);
  return results;
}

TEST(BenchViewTest, ScriptsReadEverySuite) {
  const std::string json = ToJson(ToStruct(TwoSuites()));
  EXPECT_THAT(json, HasSubstr(R"("suite": "a \"b\".tsv")"));
  EXPECT_THAT(json, HasSubstr(R"("accuracy": 0.875)"));
  EXPECT_THAT(json, HasSubstr(R"("p99Us": 1500)"));
  EXPECT_THAT(json, HasSubstr(R"("outOfScopeRecall": 0.75)"));
}

// What was not counted is a dash, not a figure.
TEST(BenchViewTest, TablesSayWhatWasNotMeasured) {
  std::ostringstream out;
  PrintTables(TwoSuites(), out);
  EXPECT_THAT(out.str(), HasSubstr("router main, graph version 3"));
  EXPECT_THAT(out.str(), HasSubstr("87.5 %"));
  EXPECT_THAT(out.str(), HasSubstr("1.5 ms"));
  EXPECT_THAT(out.str(), HasSubstr("90.0 %"));
  EXPECT_THAT(out.str(), HasSubstr("75.0 %"));
  EXPECT_THAT(out.str(), Not(HasSubstr(" 0.0 %")));
}

}  // namespace
}  // namespace octogate::octoctl
