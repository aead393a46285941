#include "gateway/judging/answer_form.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "absl/strings/str_cat.h"

namespace octogate::gateway {
namespace {

TEST(AnswerFormTest, Exact) {
  EXPECT_EQ(NormalizeAnswer(" A  b\n", v1::ANSWER_FORM_EXACT), "A  b");
  EXPECT_EQ(NormalizeAnswer(" \n", v1::ANSWER_FORM_EXACT), "");
}

TEST(AnswerFormTest, Text) {
  EXPECT_EQ(NormalizeAnswer(" Paris,\n\tFrance ", v1::ANSWER_FORM_TEXT), "paris, france");
  EXPECT_EQ(NormalizeAnswer("ÄPFEL", v1::ANSWER_FORM_TEXT), "Äpfel") << "ASCII letters only";
}

TEST(AnswerFormTest, Number) {
  const auto number = [](const std::string& text) {
    return NormalizeAnswer(text, v1::ANSWER_FORM_NUMBER);
  };
  EXPECT_EQ(number("It is 7, or rather 1,880."), "1880");
  EXPECT_EQ(number("1880.0"), "1880");
  EXPECT_EQ(number("1.88e3 m"), "1880");
  EXPECT_EQ(number("-3"), "-3");
  EXPECT_EQ(number("(-0.50)"), "-0.5");
  EXPECT_EQ(number("-0"), "0");
  EXPECT_EQ(number("3-4"), "4") << "a hyphen is no sign";
  EXPECT_EQ(number("x2 has none"), "");
  EXPECT_EQ(number("1,23"), "23") << "no group of three";
  EXPECT_EQ(number("1,234,567"), "1234567");
  EXPECT_EQ(number("no number"), "");
  EXPECT_EQ(number("9e999"), "");
}

TEST(AnswerFormTest, Choice) {
  const auto choice = [](const std::string& text) {
    return NormalizeAnswer(text, v1::ANSWER_FORM_CHOICE);
  };
  EXPECT_EQ(choice("The answer is (B)."), "B");
  EXPECT_EQ(choice("B"), "B");
  EXPECT_EQ(choice("First A, then C: C."), "C");
  EXPECT_EQ(choice("The answer is (B). I am sure"), "B") << "parentheses go first";
  EXPECT_EQ(choice("(A) is wrong, (D) is right"), "D");
  EXPECT_EQ(choice("Both are Big"), "");
  EXPECT_EQ(choice("ÄB"), "");
  EXPECT_EQ(choice("answer: b"), "");
  EXPECT_EQ(choice(""), "");
}

// Where the normal form is right by construction.
TEST(AnswerFormTest, FindsWhatWasPutIn) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  for (int i = 0; i < 1000; ++i) {
    std::string noise;
    for (uint32_t j = random() % 200; j > 0; --j) noise += static_cast<char>(random() % 256);
    const std::string letter(1, static_cast<char>('A' + random() % 26));
    EXPECT_EQ(NormalizeAnswer(absl::StrCat(noise, " (", letter, ")"), v1::ANSWER_FORM_CHOICE),
              letter);
    const auto number = static_cast<int32_t>(random());
    EXPECT_EQ(NormalizeAnswer(absl::StrCat(noise, " = ", number), v1::ANSWER_FORM_NUMBER),
              absl::StrCat(number));
    for (const v1::AnswerForm form : {v1::ANSWER_FORM_TEXT, v1::ANSWER_FORM_EXACT}) {
      const std::string once = NormalizeAnswer(noise, form);
      EXPECT_EQ(NormalizeAnswer(once, form), once);
    }
  }
}

}  // namespace
}  // namespace octogate::gateway
