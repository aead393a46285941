#include "retrieval/schema/value_match.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "retrieval/schema/trigrams.h"
#include "retrieval/schema/word_senses.h"

namespace octogate::schema {
namespace {

// The text of the question in which the value is found; empty where it is not.
std::string FoundIn(const std::string& question, const std::string& value) {
  const uint64_t hash = ValueHash(value);
  for (const ValueCandidate& candidate : ValueCandidates(question)) {
    if (hash != 0 && candidate.hash == hash) return candidate.text;
  }
  return "";
}

TEST(ValueMatch, FindsValuesWhateverTheirCaseAndPunctuation) {
  EXPECT_EQ(FoundIn("Which orders were shipped in new zealand?", "SHIPPED"), "shipped");
  EXPECT_EQ(FoundIn("Which orders were shipped in new zealand?", "New-Zealand"), "new zealand");
  EXPECT_EQ(FoundIn("List the schools of 'Los Angeles', please.", "Los Angeles"), "Los Angeles");
  EXPECT_EQ(FoundIn("How many continuation schools?", "Continuation School"),
            "continuation schools");
  EXPECT_EQ(FoundIn("schools in Fresno-Clovis", "fresno"), "Fresno-Clovis");
}

TEST(ValueMatch, DoesNotTakeWordsThatMeanNothing) {
  EXPECT_EQ(ValueHash("the"), 0U);
  EXPECT_EQ(ValueHash("7"), 0U);
  EXPECT_EQ(ValueHash("x"), 0U);
  EXPECT_EQ(ValueHash(""), 0U);
  EXPECT_EQ(ValueHash("one two three four five six seven eight nine"), 0U);
  EXPECT_EQ(FoundIn("orders of new customers", "New Zealand"), "");
}

TEST(ValueMatch, IsBounded) {
  std::string question;
  for (int i = 0; i < 10'000; ++i) question += "word" + std::to_string(i) + " ";
  EXPECT_LE(ValueCandidates(question, 200).size(), 210 * kMaxValueWords);
}

TEST(ValueMatch, KnowsWhatIsEmphasized) {
  for (const ValueCandidate& candidate : ValueCandidates("Which of the Lakers won 'gold' today")) {
    if (candidate.words != 1) continue;
    const bool expected = candidate.text == "Lakers" || candidate.text == "gold";
    EXPECT_EQ(candidate.quoted_or_capital, expected) << candidate.text;
  }
}

TEST(Trigrams, MeasureSpelling) {
  const auto similarity = [](const char* a, const char* b) {
    const auto x = Trigrams(a);
    const auto y = Trigrams(b);
    uint32_t common = 0;
    for (const uint32_t t : x) common += std::count(y.begin(), y.end(), t) > 0 ? 1 : 0;
    return TrigramSimilarity(common, static_cast<uint32_t>(x.size()),
                             static_cast<uint32_t>(y.size()));
  };
  EXPECT_FLOAT_EQ(similarity("customer", "customer"), 1);
  EXPECT_GT(similarity("custommer", "customer"), 0.7F);
  EXPECT_LT(similarity("customer", "product"), 0.1F);
}

TEST(Abbreviates, DropsLettersButNotTheFirst) {
  EXPECT_TRUE(Abbreviates("dept", "department"));
  EXPECT_TRUE(Abbreviates("qty", "quantity"));
  EXPECT_TRUE(Abbreviates("num", "number"));
  EXPECT_FALSE(Abbreviates("date", "departure"));
  EXPECT_FALSE(Abbreviates("ty", "quantity"));
  EXPECT_FALSE(Abbreviates("names", "name"));
}

TEST(SensesOf, KnowsWhatQuestionsMean) {
  EXPECT_THAT(SensesOf("oldest"), ::testing::Contains("birth"));
  EXPECT_THAT(SensesOf("zebra"), ::testing::IsEmpty());
  EXPECT_TRUE(CuesOf("When was it founded?").time);
  EXPECT_TRUE(CuesOf("Who won in 2014?").time);
  EXPECT_TRUE(CuesOf("the average price").number);
  EXPECT_FALSE(CuesOf("list the orders").number);
}

}  // namespace
}  // namespace octogate::schema
