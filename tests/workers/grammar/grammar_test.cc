// What the notation of grammars means, and what its errors say.
#include "workers/grammar/grammar.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "workers/grammar/parse_states.h"
#include "workers/grammar/rule_network.h"

namespace octogate::workers {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(std::string_view text, const GrammarOptions& options = {}) {
  const auto grammar = ParseGrammar(text, options);
  if (grammar.ok()) return "no error";
  EXPECT_EQ(grammar.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(grammar.status().message());
}

bool Accepts(std::string_view text, std::string_view input, const GrammarOptions& options = {}) {
  const auto grammar = ParseGrammar(text, options);
  EXPECT_TRUE(grammar.ok()) << grammar.status();
  if (!grammar.ok()) return false;
  const auto network = BuildRuleNetwork(*grammar);
  EXPECT_TRUE(network.ok()) << network.status();
  if (!network.ok()) return false;
  ParseStates states(&*network, 1 << 20);
  StateId state = states.start();
  for (const char byte : input) {
    if (state != ParseStates::kDead) state = states.Next(state, static_cast<uint8_t>(byte));
  }
  return states.Complete(state);
}

TEST(Notation, ItemsMeanWhatTheySay) {
  EXPECT_TRUE(Accepts("root ::= \"a\\n\\t\\\"\\\\\\x41\\u00e9\"", "a\n\t\"\\A\xC3\xA9"));
  EXPECT_TRUE(Accepts("root ::= [a-cx\\]\\-]+ # and so on", "abcx]-"));
  EXPECT_TRUE(Accepts("root ::= [a-]*", "-a-"));
  EXPECT_FALSE(Accepts("root ::= [^a-c]", "b"));
  EXPECT_TRUE(Accepts("root ::= \"Select\"i", "sELECT"));
  EXPECT_FALSE(Accepts("root ::= \"Select\"", "select"));
  EXPECT_TRUE(Accepts("root ::= \"\"", ""));
  EXPECT_TRUE(Accepts("root ::=\n", ""));
  EXPECT_TRUE(Accepts("root ::= \"a\" ( \"b\" | \"c\" )? \"d\" | \"e\"", "acd"));
  EXPECT_TRUE(Accepts("root ::= \"a\" ( \"b\" | \"c\" )? \"d\" | \"e\"", "e"));
  EXPECT_FALSE(Accepts("root ::= \"a\" ( \"b\" | \"c\" )? \"d\" | \"e\"", "ae"));
}

TEST(Notation, RepetitionsHaveBounds) {
  const std::pair<const char*, std::vector<bool>> cases[] = {
      {"*", {true, true, true, true}},      {"+", {false, true, true, true}},
      {"?", {true, true, false, false}},    {"{2}", {false, false, true, false}},
      {"{2,}", {false, false, true, true}}, {"{ 1 , 2 }", {false, true, true, false}},
      {"{0}", {true, false, false, false}}, {"{2}*", {true, false, true, false}}};
  for (const auto& [operators, accepted] : cases) {
    for (size_t count = 0; count < accepted.size(); ++count) {
      EXPECT_EQ(Accepts("root ::= \"a\"" + std::string(operators), std::string(count, 'a')),
                accepted[count])
          << operators << " " << count;
    }
  }
}

TEST(Notation, RulesEndWhereTheNextBegins) {
  EXPECT_TRUE(Accepts("root ::= a\n  b\n  | \"c\"\n# note\na ::= \"a\"  b::=\"b\"", "ab"));
}

TEST(Notation, WordsAreGivenApart) {
  const GrammarOptions options{.words = {{"table", {.words = {"singer", "Song"}}},
                                         {"column", {.words = {"Name"}, .ignore_case = true}}}};
  EXPECT_TRUE(Accepts("root ::= $table \".\" $column", "Song.nAME", options));
  EXPECT_FALSE(Accepts("root ::= $table \".\" $column", "song.Name", options));
  EXPECT_THAT(ErrorOf("root ::= $view", options), HasSubstr("1:10: no words are given for"));
}

TEST(Notation, ErrorsNamePlaceAndRemedy) {
  EXPECT_THAT(ErrorOf("root ::= \"a"), AllOf(HasSubstr("grammar:1:10"), HasSubstr("not closed")));
  EXPECT_THAT(ErrorOf("root ::= \"a\"\n  | [b"), AllOf(HasSubstr(":2:5"), HasSubstr("\"]\"")));
  EXPECT_THAT(ErrorOf("root ::= (\"a\""), AllOf(HasSubstr(":1:10"), HasSubstr("add \")\"")));
  EXPECT_THAT(ErrorOf("root ::= \"a\")"), AllOf(HasSubstr(":1:13"), HasSubstr("closes no group")));
  EXPECT_THAT(ErrorOf("root ::= \"\\q\""), AllOf(HasSubstr(":1:11"), HasSubstr("unknown escape")));
  EXPECT_THAT(ErrorOf("root ::= \"\\u12\""), HasSubstr("expected 4 hex digits"));
  EXPECT_THAT(ErrorOf("root ::= \"\\ud800\""), HasSubstr("not a Unicode character"));
  EXPECT_THAT(ErrorOf("root ::= [b-a]"), HasSubstr(":1:11: the range ends before it begins"));
  EXPECT_THAT(ErrorOf("root ::= []"), HasSubstr("holds no character"));
  EXPECT_THAT(ErrorOf("root ::= \"a\"{3,2}"), HasSubstr("upper bound is below"));
  EXPECT_THAT(ErrorOf("root ::= \"a\"{x}"), HasSubstr(":1:14: expected a number"));
  EXPECT_THAT(ErrorOf("root ::= \"a\"{999999}"), HasSubstr("more than 100000 repetitions"));
  EXPECT_THAT(ErrorOf("root ::= *"), HasSubstr("nothing to repeat"));
  EXPECT_THAT(ErrorOf("root ::= \"a\"\nroot ::= \"b\""), HasSubstr(":2:1: the rule \"root\" is"));
  EXPECT_THAT(ErrorOf("root ::= \"a\"\n | b"), AllOf(HasSubstr(":2:4"), HasSubstr("not defined")));
  EXPECT_THAT(ErrorOf("a ::= \"a\""), HasSubstr("no rule \"root\""));
  EXPECT_THAT(ErrorOf("hello"), HasSubstr("1:1: expected a rule"));
  EXPECT_THAT(ErrorOf("root ::= \"\xFF\""), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("no rule \"root\""));
}

TEST(Notation, BoundsAreKept) {
  const auto code = [](const std::string& text) { return ParseGrammar(text).status().code(); };
  EXPECT_EQ(code("root ::= " + std::string(200, '(') + std::string(200, ')')),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(code(std::string(2 << 20, ' ')), absl::StatusCode::kResourceExhausted);
  std::string rules = "root ::= \"a\"\n";
  for (size_t i = 0; i < Grammar::kMaxRules; ++i) rules += "r" + std::to_string(i) + "::=\n";
  EXPECT_EQ(code(rules), absl::StatusCode::kResourceExhausted);
}

TEST(Notation, WhatMatchesNothingIsAnError) {
  for (const char* text : {"root ::= root", "root ::= \"a\" root", "root ::= a\na ::= b\nb ::= a",
                           "root ::= \"x\" $none"}) {
    const auto grammar = ParseGrammar(text, {.words = {{"none", {}}}});
    ASSERT_TRUE(grammar.ok()) << grammar.status();
    const auto network = BuildRuleNetwork(*grammar);
    EXPECT_EQ(network.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(network.status().message()), HasSubstr("no text matches"));
  }
}

TEST(Notation, RulesThatAreNeverUsedAreNamed) {
  const auto grammar = ParseGrammar("root ::= \"a\" | b\nb ::= b\nc ::= \"c\"");
  ASSERT_TRUE(grammar.ok());
  const auto network = BuildRuleNetwork(*grammar);
  ASSERT_TRUE(network.ok()) << network.status();
  EXPECT_THAT(network->unreachable, ElementsAre("c"));
  EXPECT_THAT(network->unproductive, ElementsAre("b"));
}

}  // namespace
}  // namespace octogate::workers
