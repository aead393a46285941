#include "gateway/judging/tally.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"

namespace octogate::gateway {
namespace {

std::vector<Ballot> Of(const std::vector<std::string>& answers) {
  std::vector<Ballot> ballots;
  for (const std::string& answer : answers) ballots.push_back({.answer = answer});
  return ballots;
}

TEST(TallyTest, ThePluralityWins) {
  const Tally tally = Count(Of({"a", "b", "b"}), 3, {});
  EXPECT_EQ(tally.winner, 1);
  EXPECT_NEAR(tally.share, 2.0 / 3, 1e-12);
  EXPECT_TRUE(tally.settled);
}

TEST(TallyTest, TiesGoToTheEarliest) {
  EXPECT_EQ(Count(Of({"b", "a", "a", "b"}), 4, {}).winner, 0);
  EXPECT_EQ(Count(Of({"", "c", "d"}), 3, {}).winner, 1);
}

TEST(TallyTest, EmptyAnswersCountForNone) {
  const Tally none = Count(Of({"", ""}), 2, {});
  EXPECT_EQ(none.winner, -1);
  EXPECT_EQ(none.share, 0);
  EXPECT_NEAR(Count(Of({"", "a"}), 2, {}).share, 0.5, 1e-12);
}

TEST(TallyTest, EnoughSettlesIt) {
  EXPECT_FALSE(Count(Of({"a"}), 3, {.votes = 2}).settled);
  const Tally tally = Count(Of({"a", "b", "a", "b", "b"}), 5, {.votes = 2});
  EXPECT_TRUE(tally.settled);
  EXPECT_EQ(tally.winner, 0);
  EXPECT_EQ(tally.counted, 3);
  EXPECT_NEAR(tally.share, 2.0 / 3, 1e-12);
}

TEST(TallyTest, WeightSettlesItToo) {
  EXPECT_FALSE(Count({{"a", 0.4}}, 2, {.weight = 0.5}).settled);
  const Tally tally = Count({{"a", 0.4}, {"b", 0.3}, {"a", 0.1}, {"b", 1}}, 4, {.weight = 0.5});
  EXPECT_EQ(tally.counted, 3);
  EXPECT_EQ(tally.winner, 0);
  EXPECT_NEAR(tally.share, 0.5 / 0.8, 1e-12);
}

TEST(TallyTest, WeightsDecide) {
  const Tally tally = Count({{"a", 0.3}, {"b", 0.6}, {"a", 0.2}}, 3, {});
  EXPECT_EQ(tally.winner, 1);
  EXPECT_NEAR(tally.share, 0.6 / 1.1, 1e-12);
  EXPECT_EQ(Count({{"b", 0}, {"a", 0}, {"a", 0}}, 3, {}).winner, 1) << "all weightless";
}

// Against counting by sorting, and: what comes behind the settling ballot changes nothing.
TEST(TallyTest, AgreesWithAnotherCount) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> answers(1 + random() % 12);
    for (std::string& answer : answers) {
      const uint32_t which = random() % 5;
      if (which > 0) answer = static_cast<char>('a' + which);
    }
    std::map<std::string, int> counts;
    int most = 0;
    for (const std::string& answer : answers) {
      if (!answer.empty()) most = std::max(most, ++counts[answer]);
    }
    const int total = static_cast<int>(answers.size());
    const Tally all = Count(Of(answers), total, {});
    if (most == 0) {
      EXPECT_EQ(all.winner, -1);
      continue;
    }
    EXPECT_EQ(counts[answers[all.winner]], most);
    EXPECT_NEAR(all.share, static_cast<double>(most) / total, 1e-12);
    for (int i = 0; i < all.winner; ++i) EXPECT_LT(counts[answers[i]], most);

    const int enough = 1 + static_cast<int>(random() % 4);
    const Tally early = Count(Of(answers), total, {.votes = enough});
    std::vector<std::string> prefix(answers.begin(), answers.begin() + early.counted);
    const Tally again = Count(Of(prefix), total, {.votes = enough});
    EXPECT_EQ(again.winner, early.winner);
    EXPECT_EQ(again.share, early.share);
    EXPECT_EQ(again.settled, early.settled);
  }
}

}  // namespace
}  // namespace octogate::gateway
