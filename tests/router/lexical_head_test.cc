#include "router/lexical_head.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "router/background_queries.h"
#include "router/candidate_softmax.h"
#include "tests/router/routing_data.h"

namespace octogate::router {
namespace {

v1::LexicalHead Settings(int hash_bits = 14, int epochs = 40) {
  v1::LexicalHead settings;
  settings.set_hash_bits(hash_bits);
  settings.set_epochs(epochs);
  settings.set_seed(1);
  return settings;
}

RoutingExamples FilesAndSums() {
  return {.classes = {{"find large files", "list the files in a folder", "delete old files",
                       "copy a file", "search files for a word", "show hidden files"},
                      {"what is 2 plus 3", "17 times 4", "add 5 and 6", "12 percent of 80",
                       "square root of 16", "divide 10 by 4"}},
          .none = {}};
}

std::shared_ptr<const LexicalHead> Train(const RoutingExamples& examples,
                                         const v1::LexicalHead& settings = Settings()) {
  auto head = LexicalHead::Train(settings, examples, absl::InfiniteFuture());
  EXPECT_TRUE(head.ok()) << head.status();
  return *head;
}

LexicalHead::Scores Score(const LexicalHead& head, std::string_view text,
                          const std::vector<bool>& live = {true, true}) {
  LexicalHead::Scores scores;
  head.Score(text, live, &scores);
  return scores;
}

TEST(LexicalHeadTest, LearnsFromAFewExamples) {
  const auto head = Train(FilesAndSums());
  EXPECT_GT(Score(*head, "find the old files").probabilities[0], 0.9);
  EXPECT_GT(Score(*head, "what is 12 times 3").probabilities[1], 0.9);
  EXPECT_GT(Score(*head, "FIND  THE\nOLD FILES").probabilities[0], 0.9)
      << "case and white space do not matter";
}

TEST(LexicalHeadTest, WhatItHasNeverSeenGetsLittleConfidence) {
  const auto head = Train(FilesAndSums());
  const double known = Score(*head, "list the files in a folder").live_probability;
  for (const char* text : {"who wrote Hamlet", "zxqv wkjh pfft", "明日の天気は", "", "!!!"}) {
    EXPECT_LT(Score(*head, text).live_probability, known) << text;
    EXPECT_LT(Score(*head, text).live_probability, 0.5) << text;
  }
}

TEST(LexicalHeadTest, ProbabilitiesAreThoseOfLiveClasses) {
  const auto head = Train(FilesAndSums());
  const auto scores = Score(*head, "find files", {false, true});
  EXPECT_EQ(scores.probabilities[0], 0);
  EXPECT_NEAR(scores.probabilities[1], 1, 1e-6);
  EXPECT_LT(scores.live_probability, Score(*head, "find files").live_probability);
}

TEST(LexicalHeadTest, TrainingIsDeterministic) {
  const auto a = Train(FilesAndSums());
  const auto b = Train(FilesAndSums());
  EXPECT_EQ(a->temperature(), b->temperature());
  for (const std::string_view text : BackgroundQueries()) {
    ASSERT_EQ(Score(*a, text).probabilities, Score(*b, text).probabilities);
    ASSERT_EQ(Score(*a, text).live_probability, Score(*b, text).live_probability);
  }
}

// Random bytes of any length: always a distribution, and the same from every thread.
TEST(LexicalHeadTest, AnyTextHasADistribution) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const auto head = Train(FilesAndSums());
  std::vector<std::string> texts = {std::string(1 << 20, 'a'), std::string("\0\0", 2)};
  for (int i = 0; i < 200; ++i) {
    std::string& text = texts.emplace_back(random() % (i % 20 == 0 ? 40'000 : 200), ' ');
    for (char& c : text) c = static_cast<char>(random());
  }
  const auto check = [&] {
    for (const std::string& text : texts) {
      const auto scores = Score(*head, text);
      ASSERT_NEAR(scores.probabilities[0] + scores.probabilities[1], 1, 1e-5);
      ASSERT_GE(scores.live_probability, 0);
      ASSERT_LE(scores.live_probability, 1);
    }
  };
  std::thread other(check);
  check();
  other.join();
}

TEST(LexicalHeadTest, OddExamplesAreNoProblem) {
  EXPECT_EQ(LexicalHead::Train(Settings(), {}, absl::InfiniteFuture()).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_LT(Score(*Train({.classes = {{}, {}}, .none = {}}), "x").live_probability, 0.5);
  const auto same = Train({.classes = {{"same", "same"}, {"same"}}, .none = {"", "\xff"}});
  EXPECT_LT(std::abs(Score(*same, "same").probabilities[0] - 0.5), 0.35);
  EXPECT_EQ(LexicalHead::Train(Settings(), FilesAndSums(), absl::InfinitePast()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(LexicalHeadTest, TooManyWeightsAreRefused) {
  RoutingExamples examples;
  examples.classes.resize(kManyClasses - 1);
  std::mt19937 random(1);
  for (auto& texts : examples.classes) {
    std::string& text = texts.emplace_back();
    for (int i = 0; i < 200; ++i) absl::StrAppend(&text, random(), " ");
  }
  EXPECT_EQ(LexicalHead::Train(Settings(20), examples, absl::InfiniteFuture()).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(LexicalQualityTest, Clinc150) {
  const auto folder = TestDataFolder();
  if (!folder) GTEST_SKIP() << "OCTOGATE_TEST_DATA is not set: CLINC150 is not measured";
  const RoutingData data = ReadClinc150(*folder);
  const RoutingQuality quality = Measure(*Train(data.train, Settings(16, 8)), data, 0.5);
  RecordProperty("accuracy", absl::StrCat(quality.accuracy));
  RecordProperty("outside_refused", absl::StrCat(quality.outside_refused));
  EXPECT_GT(quality.accuracy, 0.92);
  EXPECT_GT(quality.outside_refused, 0.80);
  EXPECT_GT(quality.accepted_right, 0.80);
  EXPECT_LT(quality.calibration_error, 0.12);
}

TEST(LexicalQualityTest, MmluPro) {
  const auto folder = TestDataFolder();
  if (!folder) GTEST_SKIP() << "OCTOGATE_TEST_DATA is not set: MMLU-Pro is not measured";
  const RoutingData data = ReadMmluPro(*folder);
  const RoutingQuality quality = Measure(*Train(data.train, Settings(16, 8)), data, 0.5);
  RecordProperty("accuracy", absl::StrCat(quality.accuracy));
  EXPECT_GT(quality.accuracy, 0.80);
  EXPECT_LT(quality.calibration_error, 0.08);
}

}  // namespace
}  // namespace octogate::router
