// The parser reads the language that a grammar describes: against a slow recogniser, on random
// grammars that are recursive and ambiguous in every way.
#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/grammar/slow_grammar.h"
#include "workers/grammar/grammar.h"
#include "workers/grammar/parse_states.h"
#include "workers/grammar/rule_network.h"

namespace octogate::workers {
namespace {

constexpr size_t kStateBytes = size_t{16} << 20;

StateId Read(ParseStates& states, std::string_view text) {
  StateId state = states.start();
  for (const char byte : text) {
    if (state != ParseStates::kDead) state = states.Next(state, static_cast<uint8_t>(byte));
  }
  return state;
}

RuleNetwork NetworkOf(std::string_view text) {
  const auto grammar = ParseGrammar(text);
  EXPECT_TRUE(grammar.ok()) << grammar.status();
  auto network = BuildRuleNetwork(*grammar);
  EXPECT_TRUE(network.ok()) << network.status();
  return *std::move(network);
}

bool Accepts(std::string_view grammar, std::string_view text) {
  const RuleNetwork network = NetworkOf(grammar);
  ParseStates states(&network, kStateBytes);
  return states.Complete(Read(states, text));
}

// All texts of at most `length` letters.
std::vector<std::string> AllTexts(int length) {
  std::vector<std::string> texts = {""};
  for (size_t begin = 0; length > 0; --length) {
    const size_t end = texts.size();
    for (size_t i = begin; i < end; ++i) {
      for (const std::string& letter : Letters()) texts.push_back(texts[i] + letter);
    }
    begin = end;
  }
  return texts;
}

TEST(Language, IsThatOfTheGrammarForRandomGrammars) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const std::vector<std::string> texts = AllTexts(4);
  int satisfiable = 0;
  int accepted = 0;
  int completions = 0;
  for (int round = 0; round < 2000; ++round) {
    const SlowGrammar slow = SlowGrammar::Random(random);
    SCOPED_TRACE(slow.Notation());
    const auto grammar = ParseGrammar(slow.Notation());
    ASSERT_TRUE(grammar.ok()) << grammar.status();
    const auto network = BuildRuleNetwork(*grammar);
    ASSERT_EQ(network.ok(), slow.Satisfiable()) << network.status();
    if (!network.ok()) {
      ASSERT_EQ(network.status().code(), absl::StatusCode::kInvalidArgument);
      continue;
    }
    ++satisfiable;
    ParseStates states(&*network, kStateBytes);
    for (int i = 0; i < 60; ++i) {
      const std::string& text = texts[random() % texts.size()];
      const StateId state = Read(states, text);
      ASSERT_NE(state, ParseStates::kFailed);
      ASSERT_EQ(state != ParseStates::kDead && states.Complete(state), slow.Accepts(text)) << text;
      if (state == ParseStates::kDead) continue;
      accepted += states.Complete(state) ? 1 : 0;
      // What is not dead can be completed, and every prefix of a text in the language is alive.
      const std::string rest = states.ShortestCompletion(state).value();
      if (text.size() + rest.size() > 16) continue;
      ++completions;
      ASSERT_TRUE(slow.Accepts(text + rest)) << text << " + " << rest;
    }
  }
  // Neither check was idle.
  EXPECT_GT(satisfiable, 100);
  EXPECT_GT(accepted, 200);
  EXPECT_GT(completions, 400);
}

TEST(Language, LivesExactlyAsLongAsSomeTextBeginsSo) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const std::vector<std::string> texts = AllTexts(3);
  for (int round = 0; round < 60; ++round) {
    const SlowGrammar slow = SlowGrammar::Random(random);
    SCOPED_TRACE(slow.Notation());
    if (!slow.Satisfiable()) continue;
    const RuleNetwork network = NetworkOf(slow.Notation());
    ParseStates states(&network, kStateBytes);
    for (const std::string& text : texts) {
      if (!slow.Accepts(text)) continue;
      for (size_t cut = 0; cut <= text.size(); ++cut) {
        ASSERT_NE(Read(states, text.substr(0, cut)), ParseStates::kDead) << text << " at " << cut;
      }
    }
  }
}

TEST(Language, ShortestCompletionIsShortest) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  std::vector<std::string> texts = AllTexts(4);
  std::stable_sort(texts.begin(), texts.end(),
                   [](const auto& a, const auto& b) { return a.size() < b.size(); });
  for (int round = 0; round < 100; ++round) {
    const SlowGrammar slow = SlowGrammar::Random(random);
    SCOPED_TRACE(slow.Notation());
    if (!slow.Satisfiable()) continue;
    const RuleNetwork network = NetworkOf(slow.Notation());
    ParseStates states(&network, kStateBytes);
    const std::string shortest = states.ShortestCompletion(states.start()).value();
    for (const std::string& text : texts) {
      if (text.size() >= shortest.size() || text.size() > 4) break;
      ASSERT_FALSE(slow.Accepts(text)) << text << " is shorter than " << shortest;
    }
  }
}

TEST(Language, EqualSituationsAreOneState) {
  // Else a mask would be computed for every character of a long string.
  const RuleNetwork network = NetworkOf(R"(
    root ::= value
    value ::= string | "[" ws (value ("," ws value)*)? "]" ws
    string ::= "\"" [^"]* "\"" ws
    ws ::= ([ \n] ws)?)");
  ParseStates states(&network, kStateBytes);
  const StateId inside = Read(states, "[\"a");
  EXPECT_EQ(Read(states, "[\"abc, and so on, \xC3\xA9"), inside);
  EXPECT_EQ(Read(states, "[\"x\", \n\n \"y"), Read(states, "[\"\",\"z"));
  const size_t before = states.state_count();
  std::string text = "[";
  for (int i = 0; i < 1000; ++i) text += "\"some text\",    ";
  Read(states, text);
  EXPECT_LT(states.state_count(), before + 20);
}

TEST(Language, LeftAndTailRecursionBecomeLoops) {
  for (const char* grammar : {"root ::= root \"a\" | \"a\"", "root ::= \"a\" root | \"a\"",
                              "root ::= root root | \"a\"", "root ::= \"a\"+"}) {
    SCOPED_TRACE(grammar);
    const RuleNetwork network = NetworkOf(grammar);
    EXPECT_TRUE(network.calls.empty());
    EXPECT_EQ(network.state_count(), 2u);
  }
  EXPECT_FALSE(NetworkOf("root ::= \"a\" root \"b\" | \"\"").calls.empty());
}

TEST(Language, HiddenAndMutualLeftRecursion) {
  const char* grammar = "root ::= none x \"c\" | \"\"\nx ::= root | \"b\"\nnone ::= \"n\"?";
  EXPECT_TRUE(Accepts(grammar, ""));
  EXPECT_TRUE(Accepts(grammar, "cccc"));
  EXPECT_TRUE(Accepts(grammar, "nbccc"));
  EXPECT_TRUE(Accepts(grammar, "nnnncccc"));
  EXPECT_FALSE(Accepts(grammar, "nnnnnccc"));
}

TEST(Language, CharactersAreWholeUtf8) {
  EXPECT_TRUE(Accepts("root ::= .", "\xF4\x8F\xBF\xBF"));
  EXPECT_TRUE(Accepts("root ::= [^a]", "\xE2\x82\xAC"));
  EXPECT_TRUE(Accepts("root ::= [\\u00e0-\\U0001F600]", "\xF0\x9F\x98\x80"));
  EXPECT_FALSE(Accepts("root ::= [\\u00e0-\\U0001F600]", "\xF0\x9F\x98\x81"));
  for (const char* bad : {"\x80", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xFF"}) {
    EXPECT_FALSE(Accepts("root ::= .", bad));
  }
}

TEST(Language, OneCharacterOfEveryRangeIsReadAsItsBytes) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto encode = [](uint32_t c) {
    std::string text;
    if (c < 0x80) return std::string(1, static_cast<char>(c));
    if (c >= 0x10000) text += static_cast<char>(0xF0 | c >> 18);
    if (c >= 0x800) text += static_cast<char>((c < 0x10000 ? 0xE0 : 0x80) | (c >> 12 & 0x3F));
    text += static_cast<char>((c < 0x800 ? 0xC0 : 0x80) | (c >> 6 & 0x3F));
    return text + static_cast<char>(0x80 | (c & 0x3F));
  };
  for (int round = 0; round < 50; ++round) {
    const uint32_t bits = 7 + random() % 15;
    uint32_t first = random() % std::min(1u << bits, 0x110000u);
    uint32_t last = std::min<uint32_t>(first + random() % (1u << bits), 0x10FFFF);
    const auto surrogate = [](uint32_t c) { return c >= 0xD800 && c <= 0xDFFF; };
    if (surrogate(first) || surrogate(last)) continue;
    char text[64];
    std::snprintf(text, sizeof(text), "root ::= [\\U%08x-\\U%08x]", first, last);
    SCOPED_TRACE(text);
    const RuleNetwork network = NetworkOf(text);
    ParseStates states(&network, kStateBytes);
    for (int i = 0; i < 200; ++i) {
      const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
      const uint32_t near[] = {first + below(3) - 1, last + below(3) - 1,
                               first + below(last - first + 1), below(0x110000)};
      const uint32_t c = near[below(4)];
      if (surrogate(c) || c > 0x10FFFF) continue;
      const StateId state = Read(states, encode(c));
      ASSERT_EQ(state != ParseStates::kDead && states.Complete(state), c >= first && c <= last)
          << c;
    }
  }
}

TEST(Language, DroppingStatesLosesNothing) {
  const RuleNetwork network =
      NetworkOf("root ::= \"(\" root \")\" root | [a-z]* \"x\" | \"\" | root \"+\" root");
  const std::string text =
      "((abx)+(x)+((())))+(qx)+" + std::string(60, '(') + "x" + std::string(60, ')');
  ParseStates plenty(&network, kStateBytes);
  ParseStates few(&network, 24'000);
  StateId expected = plenty.start();
  StateId state = few.start();
  std::vector<uint32_t> pins;
  bool dropped = false;
  for (int round = 0; round < 20; ++round) {
    for (const char byte : text + "+") {
      pins.assign(few.id_bound(), 0);
      ++pins[state];
      dropped |= few.BeginWork(100'000, pins);
      state = few.Next(state, static_cast<uint8_t>(byte));
      expected = plenty.Next(expected, static_cast<uint8_t>(byte));
      ASSERT_NE(expected, ParseStates::kDead);
      ASSERT_NE(state, ParseStates::kDead);
      ASSERT_NE(state, ParseStates::kFailed) << few.status();
      ASSERT_EQ(few.Complete(state), plenty.Complete(expected));
      ASSERT_EQ(few.Kernel(state).size(), plenty.Kernel(expected).size());
    }
  }
  EXPECT_TRUE(dropped) << few.bytes() << " bytes of " << few.state_count() << " states";
}

TEST(Language, LimitsAreErrors) {
  // Nested ever deeper: each level is a state that must be kept.
  const RuleNetwork network = NetworkOf("root ::= \"(\" root \")\" | \"\"");
  ParseStates states(&network, 100'000);
  StateId state = states.start();
  std::vector<uint32_t> pins;
  int depth = 0;
  for (; depth < 100'000 && state != ParseStates::kFailed; ++depth) {
    pins.assign(states.id_bound(), 0);
    ++pins[state];
    states.BeginWork(1000, pins);
    state = states.Next(state, '(');
  }
  EXPECT_EQ(state, ParseStates::kFailed);
  EXPECT_EQ(states.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_GT(depth, 100);
}

TEST(Language, PredictionsAreBounded) {
  // After the first letter, each of many rules may begin anywhere within each of them.
  constexpr int kRules = 60;
  std::string all;
  for (int i = 0; i < kRules; ++i) all += " r" + std::to_string(i) + "?";
  std::string text = "root ::= \"a\" r0\n";
  for (int i = 0; i < kRules; ++i) {
    text += "r" + std::to_string(i) + " ::= \"" + std::string(1, static_cast<char>('b' + i % 20)) +
            "\"?" + all + "\n";
  }
  const RuleNetwork network = NetworkOf(text);
  ParseStates states(&network, kStateBytes);
  ASSERT_NE(states.start(), ParseStates::kFailed) << states.status();
  constexpr uint64_t kWork = 2000;
  states.BeginWork(kWork, {});
  const size_t before = states.state_count();
  EXPECT_EQ(states.Next(states.start(), 'a'), ParseStates::kFailed);
  EXPECT_EQ(states.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_LE(states.work(), kWork + 2 * kRules) << "at most one item too many";
  EXPECT_EQ(states.state_count(), before) << "what failed is no state";
  states.BeginWork(100'000'000, {});
  EXPECT_NE(states.Next(states.start(), 'a'), ParseStates::kFailed) << states.status();

  // What waits takes some 50 kB.
  ParseStates small(&network, 150'000);
  ASSERT_NE(small.start(), ParseStates::kFailed) << small.status();
  small.BeginWork(100'000'000, {});
  EXPECT_EQ(small.Next(small.start(), 'a'), ParseStates::kFailed);
  EXPECT_THAT(std::string(small.status().message()), ::testing::HasSubstr("150000 bytes"));
  EXPECT_LT(small.work(), states.work());
}

TEST(Language, StatesAreDroppedAgainAfterARefusal) {
  const RuleNetwork network = NetworkOf("root ::= \"(\" root \")\" | \"\"");
  ParseStates states(&network, 100'000);
  StateId state = states.start();
  std::vector<uint32_t> pins;
  const auto begin = [&](StateId pinned) {
    pins.assign(states.id_bound(), 0);
    ++pins[pinned];
    states.BeginWork(1'000'000, pins);
  };
  // Everything is needed until the first refusal.
  for (StateId next = state; next != ParseStates::kFailed; next = states.Next(state, '(')) {
    state = next;
    begin(state);
  }
  // Nor is anything dropped now.
  begin(state);
  ASSERT_EQ(states.Next(state, '('), ParseStates::kFailed);
  begin(states.start());
  EXPECT_LT(states.bytes(), 50'000u);
  state = states.start();
  for (int i = 0; i < 50; ++i) {
    state = states.Next(state, '(');
    ASSERT_NE(state, ParseStates::kFailed) << states.status();
  }
}

TEST(Language, HostileRepetitionsAreBounded) {
  // Determinised, this needs 2^25 states; nested, those need 10^15.
  EXPECT_TRUE(Accepts("root ::= [ab]* \"a\" [ab]{25}", "ba" + std::string(25, 'b')));
  const auto grammar = ParseGrammar("root ::= (((\"a\"{1000}){1000}){1000}){1000}");
  ASSERT_TRUE(grammar.ok());
  EXPECT_EQ(BuildRuleNetwork(*grammar).status().code(), absl::StatusCode::kResourceExhausted);
  const auto optional = ParseGrammar("root ::= ((\"a\"?){0,1000}){0,1000}");
  ASSERT_TRUE(optional.ok());
  EXPECT_EQ(BuildRuleNetwork(*optional).status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace octogate::workers
