#include "router/argument_check.h"

#include <gtest/gtest.h>

#include <random>

namespace octogate::router {
namespace {

std::string Numbers(const char* query, const char* argument) {
  return WhatArgumentLost(v1::ARGUMENT_CHECK_NUMBERS, query, argument);
}

TEST(ArgumentCheckTest, NumbersAreComparedByValue) {
  EXPECT_EQ(Numbers("what is 12.5% of 1,880?", "1880 * 12.5 / 100"), "");
  EXPECT_EQ(Numbers("what weekday was 4 July 1976", "weekday of 1976-07-04"), "");
  EXPECT_EQ(Numbers("when it is 9:00 in Paris", "09:00 in Europe/Paris"), "");
  EXPECT_EQ(Numbers("007 and 1.50", "7 + 1.5"), "");
  EXPECT_EQ(Numbers("a dozen", "12"), "");
}

TEST(ArgumentCheckTest, ALostNumberIsNamed) {
  EXPECT_EQ(Numbers("split 84.60 between 4", "84.60 / 84.60"), "lost the number 4");
  EXPECT_EQ(Numbers("2^200 - 1", "2 ^ 1"), "lost the number 200");
  EXPECT_EQ(Numbers("1,880", "1 + 880"), "lost the number 1880");
  EXPECT_EQ(Numbers("1.5", "15"), "lost the number 1.5");
  EXPECT_EQ(Numbers("10", "100"), "lost the number 10");
}

TEST(ArgumentCheckTest, CommasBetweenThingsAreNotThousands) {
  EXPECT_EQ(Numbers("the mean of 4, 8 and 15", "avg(4,8,15)"), "");
  EXPECT_EQ(Numbers("max of 10 and 20", "max(10,20)"), "");
  EXPECT_EQ(Numbers("1234,567", "1234 567"), "") << "four digits are no group";
}

TEST(ArgumentCheckTest, AnExcerptIsCopied) {
  const auto excerpt = [](const char* query, const char* argument) {
    return WhatArgumentLost(v1::ARGUMENT_CHECK_EXCERPT, query, argument);
  };
  EXPECT_EQ(excerpt("what does 'tar -xzf a.tgz' do?", "tar -xzf a.tgz"), "");
  EXPECT_EQ(excerpt("what does 'tar -xzf a.tgz' do?", "tar -xf a.tgz"),
            "is not a part of the query");
}

TEST(ArgumentCheckTest, AQueryKeepsItselfWhateverItIs) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const std::string alphabet = "0123456789,,..ab -";
  for (int round = 0; round < 5000; ++round) {
    std::string text(random() % 20, ' ');
    for (char& c : text) c = alphabet[random() % alphabet.size()];
    EXPECT_EQ(WhatArgumentLost(v1::ARGUMENT_CHECK_NUMBERS, text, text), "") << text;
    EXPECT_EQ(WhatArgumentLost(v1::ARGUMENT_CHECK_EXCERPT, text, text), "") << text;
    EXPECT_EQ(WhatArgumentLost(v1::ARGUMENT_CHECK_UNSPECIFIED, text, "x"), "");
  }
}

}  // namespace
}  // namespace octogate::router
