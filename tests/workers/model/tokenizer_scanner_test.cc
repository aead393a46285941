// The hand-written scanners against the patterns that they stand for, run by ICU.
#include "workers/model/tokenizer_scanner.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>
#include <vector>

#include "workers/model/tokenizer_regex.h"
#include "workers/model/tokenizer_unicode.h"

namespace octogate::workers {
namespace {

class ScannerTest : public testing::TestWithParam<std::string_view> {
 protected:
  static std::vector<std::string> Pieces(const TextPattern& pattern, const std::string& text) {
    std::vector<TextRange> matches;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    EXPECT_TRUE(pattern.FindAll(text, deadline, &matches).ok());
    std::vector<std::string> pieces;
    for (const TextRange& match : matches) {
      pieces.push_back(text.substr(match.begin, match.end - match.begin));
    }
    return pieces;
  }

  const TextPattern scanner_ = TextPattern::Regex(GetParam()).value();
  const TextPattern icu_ = TextPattern::Regex(GetParam(), /*allow_scanner=*/false).value();
};

TEST_P(ScannerTest, ExistsForThePattern) {
  EXPECT_NE(scanner_.scanner(), nullptr);
  EXPECT_EQ(icu_.scanner(), nullptr);
}

TEST_P(ScannerTest, MatchesAsIcuDoesOnRandomTexts) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  // What the patterns tell apart, with a bias to where they look ahead.
  const std::vector<std::string> alphabet = {
      "a",      "Z",  "\u00e9", "\u0130", "\u017f", "\u4e2d", "1",          "\u0663",
      "\u00bd", "'",  "'s",     "'S",     "'ll",    "'Re",    "'v",         " ",
      "  ",     "\t", "\n",     "\r\n",   "\v",     "\u00a0", "\u3000",     "\u2028",
      "\u200b", "!",  "?!",     "\u0301", "\u20ac", "<",      "\U0001F600", "\uFFFD",
      "\x01",   "_",  "l",      "e",      "s",      "t",      "d"};
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (size_t length = 1 + random() % 12; length > 0; --length) {
      text += alphabet[random() % alphabet.size()];
    }
    ASSERT_EQ(Pieces(scanner_, text), Pieces(icu_, text)) << testing::PrintToString(text);
  }
}

TEST_P(ScannerTest, ClassesAreIcusForEveryCharacterItKnows) {
  const TextPattern assigned = TextPattern::Regex("\\P{Cn}+", false).value();
  for (char32_t block = 0; block < 0x110000; block += 0x100) {
    std::string text;
    for (char32_t code = block; code < block + 0x100; ++code) {
      if (code < 0xD800 || code > 0xDFFF) {
        // Between a letter and a number, every class gives other pieces.
        text += 'a';
        AppendUtf8(code, &text);
        text += '1';
      }
    }
    std::string known;
    for (const std::string& part : Pieces(assigned, text)) {
      known += part;
    }
    if (!known.empty()) {
      ASSERT_EQ(Pieces(scanner_, known), Pieces(icu_, known))
          << "block " << static_cast<uint32_t>(block);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Patterns, ScannerTest, testing::Values(kGpt2Pattern, kLlama3Pattern, kQwen2Pattern),
    [](const auto& info) {
      return std::string(info.index == 0 ? "Gpt2" : info.index == 1 ? "Llama3" : "Qwen2");
    });

TEST(RegexTest, OnigurumaMeansWhatItMeansThere) {
  EXPECT_EQ(TranslatePattern("\\h").value(), "[0-9A-Fa-f]");
  const std::string word = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
  EXPECT_EQ(TranslatePattern("[\\w-]").value(), "[[" + word + "]-]");
  EXPECT_EQ(TranslatePattern("\\W").value(), "[^" + word + "\\xB2\\xB3\\xB9\\xBC-\\xBE]");
  EXPECT_EQ(TranslatePattern("\\p{^L}").value(), "\\P{L}");
  EXPECT_EQ(TranslatePattern("[\\p{L}\\x{A0}]\\x{e9}").value(), "[\\p{L}\\x{A0}]\\x{e9}");
  EXPECT_EQ(TranslatePattern("\\s++a{1,3}").value(), "\\s++a{1,3}");
}

TEST(RegexTest, WhatTheTwoReadDifferentlyIsRefused) {
  for (const char* const pattern :
       {"a{1,2}+", "a{,2}", "\\Kx", "\\Gx", "[[:alpha:]]", "[a--b]", "(?m:.)", "(?<x>a)", "\\1"}) {
    EXPECT_TRUE(absl::IsUnimplemented(TranslatePattern(pattern).status())) << pattern;
  }
}

}  // namespace
}  // namespace octogate::workers
