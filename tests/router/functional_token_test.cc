#include "router/functional_token.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace octogate::router {
namespace {

using State = FunctionalTokenState;

FunctionalTokenSyntax RawSyntax() {
  return *FunctionalTokenSyntax::Create({"<fn:shell>", "<fn:clock>"}, "<fn:end>",
                                        v1::ARGUMENT_STYLE_RAW);
}

FunctionalTokenSyntax OctopusSyntax() {
  std::vector<std::string> tokens;
  for (int i = 0; i <= 16; ++i) tokens.push_back("<nexa_" + std::to_string(i) + ">");
  return *FunctionalTokenSyntax::Create(tokens, "<nexa_end>", v1::ARGUMENT_STYLE_CALL);
}

FunctionalToken Parse(const FunctionalTokenSyntax& syntax, std::string_view text) {
  FunctionalTokenParser parser(&syntax);
  parser.Feed(text);
  return parser.Finish();
}

struct Case {
  std::string text;
  State state;
  std::string token;
  std::string argument;
};

void Check(const FunctionalTokenSyntax& syntax, const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    const FunctionalToken result = Parse(syntax, c.text);
    EXPECT_EQ(result.state, c.state) << c.text;
    EXPECT_EQ(result.token, c.token) << c.text;
    EXPECT_EQ(result.argument, c.argument) << c.text;
  }
}

TEST(FunctionalTokenTest, RawArgumentsReachToTheEndToken) {
  Check(RawSyntax(),
        {{"<fn:shell>find files<fn:end>", State::kComplete, "<fn:shell>", "find files"},
         {"<fn:shell>  it's (\"quoted\")\n<fn:end>tail", State::kComplete, "<fn:shell>",
          "it's (\"quoted\")"},
         {"<fn:clock><fn:end>", State::kComplete, "<fn:clock>", ""},
         {"<fn:shell>a < b <fn: c<fn:end>", State::kComplete, "<fn:shell>", "a < b <fn: c"},
         {"<fn:shell>two\nlines\n", State::kTruncated, "<fn:shell>", "two\nlines"},
         {"<fn:shell>x<fn:en", State::kTruncated, "<fn:shell>", "x<fn:en"},
         {"<fn:shell>x<fn:clock>y<fn:end>", State::kMalformed, "<fn:shell>", "x"}});
}

TEST(FunctionalTokenTest, WhatIsNoTokenIsNamed) {
  Check(RawSyntax(), {{"", State::kNoToken, "", ""},
                      {"Sure, here it is.", State::kNoToken, "", ""},
                      {"<fn:end>", State::kNoToken, "", ""},
                      {"<fn:shel", State::kNoToken, "", ""},
                      {" <fn:gone>x<fn:end>", State::kUnknownToken, "<fn:gone>", "x"},
                      {"<fn:gone>x", State::kUnknownToken, "<fn:gone>", "x"}});
  const FunctionalTokenSyntax syntax = OctopusSyntax();
  EXPECT_EQ(Parse(syntax, "<nexa_99>('x')<nexa_end>").state, State::kUnknownToken);
}

TEST(FunctionalTokenTest, TextBeforeTheTokenIsKeptApart) {
  const FunctionalTokenSyntax syntax = RawSyntax();
  const FunctionalToken result = Parse(syntax, "Sure: <fn:clock>now<fn:end>");
  EXPECT_EQ(result.state, State::kComplete);
  EXPECT_EQ(result.leading, "Sure:");
  EXPECT_EQ(result.argument, "now");
}

// What Octopus v4 writes, and what breaks its own reader.
TEST(FunctionalTokenTest, CallArguments) {
  Check(
      OctopusSyntax(),
      {{"<nexa_4>('Determine the derivative')<nexa_end>", State::kComplete, "<nexa_4>",
        "Determine the derivative"},
       {"<nexa_4>('Newton's second law')\n<nexa_end>", State::kComplete, "<nexa_4>",
        "Newton's second law"},
       {"<nexa_16>('It\\'s fine')<nexa_end>", State::kComplete, "<nexa_16>", "It's fine"},
       {"<nexa_1>(\"He said \\\"no\\\"\")<nexa_end>", State::kComplete, "<nexa_1>",
        "He said \"no\""},
       {"<nexa_1>('f(x) = (a')b')')<nexa_end>", State::kComplete, "<nexa_1>", "f(x) = (a')b')"},
       {"<nexa_1> ( 'spaced' ) <nexa_end>", State::kComplete, "<nexa_1>", "spaced"},
       {"<nexa_1>('two\nlines\\nthree')<nexa_end>", State::kComplete, "<nexa_1>",
        "two\nlines\nthree"},
       {"<nexa_1>('C:\\\\dir \\d')<nexa_end>", State::kComplete, "<nexa_1>", "C:\\dir \\d"},
       {"<nexa_1>('')<nexa_end>", State::kComplete, "<nexa_1>", ""},
       {"<nexa_1>('cut off", State::kTruncated, "<nexa_1>", "cut off"},
       {"<nexa_1>('closed but not ended')", State::kTruncated, "<nexa_1>", "closed but not ended"},
       {"<nexa_1>", State::kTruncated, "<nexa_1>", ""},
       {"<nexa_1>plain<nexa_end>", State::kMalformed, "<nexa_1>", "plain"},
       {"<nexa_1>('open<nexa_end>", State::kMalformed, "<nexa_1>", "('open"},
       {"<nexa_1>(<nexa_end>", State::kMalformed, "<nexa_1>", "("},
       {"<nexa_1>(')<nexa_end>", State::kMalformed, "<nexa_1>", "(')"},
       {"<nexa_1>('mixed\")<nexa_end>", State::kMalformed, "<nexa_1>", "('mixed\")"}});
}

TEST(FunctionalTokenTest, OverlongTextsAreCut) {
  const FunctionalTokenSyntax syntax = RawSyntax();
  FunctionalTokenParser parser(&syntax, 20);
  parser.Feed("<fn:shell>0123456789abcdef<fn:end>");
  EXPECT_TRUE(parser.done());
  EXPECT_EQ(parser.Finish().state, State::kTruncated);
  EXPECT_EQ(parser.Finish().argument, "0123456789");
}

TEST(FunctionalTokenTest, GenerationCanStopAtTheEndToken) {
  const FunctionalTokenSyntax syntax = RawSyntax();
  FunctionalTokenParser parser(&syntax);
  parser.Feed("<fn:shell>x<fn:en");
  EXPECT_FALSE(parser.done());
  parser.Feed("d>");
  EXPECT_TRUE(parser.done());
  parser.Feed("more");
  EXPECT_EQ(parser.Finish().argument, "x");
}

TEST(FunctionalTokenTest, AmbiguousSpellingsAreRefused) {
  const auto create = [](std::vector<std::string> tokens, std::string end) {
    return FunctionalTokenSyntax::Create(std::move(tokens), std::move(end), v1::ARGUMENT_STYLE_RAW)
        .status()
        .code();
  };
  EXPECT_EQ(create({"<a>", "<a>"}, "<e>"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({"<a>", "x<a>y"}, "<e>"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({"<a>"}, "<a>"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({""}, "<e>"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({"<nexa_1>", "<nexa_16>"}, "<nexa_end>"), absl::StatusCode::kOk);
}

// The result does not depend on how the text arrives.
TEST(FunctionalTokenTest, ChunkingDoesNotMatter) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const FunctionalTokenSyntax syntaxes[] = {
      RawSyntax(), OctopusSyntax(),
      *FunctionalTokenSyntax::Create({"ab", "bc"}, "ca", v1::ARGUMENT_STYLE_RAW)};
  const std::vector<std::string> parts = {
      "<fn:shell>", "<fn:clock>", "<fn:end>", "<nexa_1>", "<nexa_16>", "<nexa_end>", "('", "')",
      "(\"",        "\")",        "\\'",      "'",        " ",         "\n",         "<",  ">",
      "<fn:",       "<nexa_",     "a",        "b",        "c",         "é",          "\\", "\xff"};
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (int n = static_cast<int>(random() % 12); n > 0; --n)
      text += parts[random() % parts.size()];
    const FunctionalTokenSyntax& syntax = syntaxes[random() % std::size(syntaxes)];
    const size_t max_bytes = random() % 4 == 0 ? 1 + random() % 30 : 1000;
    FunctionalTokenParser whole(&syntax, max_bytes);
    whole.Feed(text);
    FunctionalTokenParser pieces(&syntax, max_bytes);
    for (size_t i = 0; i < text.size();) {
      const size_t n = random() % 4;
      pieces.Feed(std::string_view(text).substr(i, n));
      i += std::min(n, text.size() - i);
    }
    const FunctionalToken a = whole.Finish();
    const FunctionalToken b = pieces.Finish();
    ASSERT_EQ(a.state, b.state) << text;
    ASSERT_EQ(a.token, b.token) << text;
    ASSERT_EQ(a.argument, b.argument) << text;
    ASSERT_EQ(a.leading, b.leading) << text;
    ASSERT_EQ(whole.done(), pieces.done()) << text;
  }
}

}  // namespace
}  // namespace octogate::router
