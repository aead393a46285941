// Masks are sound and complete: a token is in one exactly where the text can be completed after it.
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/grammar/slow_grammar.h"
#include "workers/grammar/compiled_grammar.h"
#include "workers/grammar/grammar.h"
#include "workers/grammar/parse_states.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<const TokenTrie> MakeTrie(std::vector<std::string> tokens,
                                          std::vector<int32_t> end_ids) {
  auto trie = TokenTrie::Create({.bytes = std::move(tokens), .end_ids = std::move(end_ids)});
  EXPECT_TRUE(trie.ok()) << trie.status();
  return std::make_shared<const TokenTrie>(*std::move(trie));
}

// Pieces of random texts, cut anywhere, also within characters; some are equal, one is empty.
std::shared_ptr<const TokenTrie> RandomTrie(std::mt19937& random) {
  std::vector<std::string> tokens = {"", "</s>"};
  const size_t count = 2 + random() % 40;
  while (tokens.size() < count + 2) {
    std::string text;
    while (text.size() < 6) text += Letters()[random() % Letters().size()];
    const size_t begin = random() % 3;
    tokens.push_back(text.substr(begin, 1 + random() % 5));
  }
  return MakeTrie(std::move(tokens), {1});
}

std::shared_ptr<const CompiledGrammar> Compile(const std::string& text,
                                               std::shared_ptr<const TokenTrie> trie,
                                               const CompileOptions& options = {}) {
  const auto grammar = ParseGrammar(text);
  EXPECT_TRUE(grammar.ok()) << grammar.status();
  auto compiled = CompiledGrammar::Compile(*grammar, std::move(trie), options);
  EXPECT_TRUE(compiled.ok()) << compiled.status();
  return compiled.ok() ? *compiled : nullptr;
}

bool Has(const std::vector<uint64_t>& mask, int32_t id) {
  return (mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0;
}

TEST(TokenMask, IsSoundAndCompleteForRandomGrammarsAndVocabularies) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  int allowed = 0;
  int refused = 0;
  int ends = 0;
  for (int round = 0; round < 150; ++round) {
    const SlowGrammar slow = SlowGrammar::Random(random);
    if (!slow.Satisfiable()) continue;
    SCOPED_TRACE(slow.Notation());
    const auto trie = RandomTrie(random);
    const auto grammar = Compile(slow.Notation(), trie);
    ASSERT_NE(grammar, nullptr);
    // The states' own truth, which language_test compares with the slow recogniser.
    ParseStates states(&grammar->network(), size_t{16} << 20);
    for (int walk = 0; walk < 4; ++walk) {
      GrammarMatcher matcher(grammar);
      StateId state = states.start();
      std::string text;
      for (int step = 0; step < 6; ++step) {
        std::vector<uint64_t> mask(grammar->mask_words());
        ASSERT_TRUE(matcher.FillMask(mask).ok());
        ASSERT_EQ(Has(mask, 1), slow.Accepts(text)) << text;
        ASSERT_EQ(matcher.IsComplete(), Has(mask, 1));
        ends += Has(mask, 1) ? 1 : 0;
        ASSERT_FALSE(Has(mask, 0));
        std::vector<int32_t> choices;
        for (int32_t id = 2; id < trie->vocab_size(); ++id) {
          StateId next = state;
          for (const char byte : trie->bytes(id)) {
            next = states.Next(next, static_cast<uint8_t>(byte));
          }
          ASSERT_EQ(Has(mask, id), next != ParseStates::kDead) << text << " + " << trie->bytes(id);
          GrammarMatcher fork = matcher.Fork();
          ASSERT_EQ(fork.AcceptToken(id).ok(), Has(mask, id));
          (Has(mask, id) ? allowed : refused) += 1;
          if (!Has(mask, id)) continue;
          choices.push_back(id);
          const std::string longer = text + std::string(trie->bytes(id));
          const std::string whole = longer + fork.ShortestCompletion().value();
          if (whole.size() > 12) continue;
          ASSERT_TRUE(slow.Accepts(whole)) << longer << ": " << whole;
        }
        if (choices.empty()) break;
        const int32_t id = choices[random() % choices.size()];
        ASSERT_TRUE(matcher.AcceptToken(id).ok());
        for (const char byte : trie->bytes(id)) {
          state = states.Next(state, static_cast<uint8_t>(byte));
        }
        text += trie->bytes(id);
      }
    }
  }
  EXPECT_GT(allowed, 1000);
  EXPECT_GT(refused, 1000);
  EXPECT_GT(ends, 100);
}

TEST(TokenMask, DoesNotDependOnTheMemoryThereIs) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const std::string text =
      "root ::= value\nvalue ::= \"a\" value \"b\" | \"\xC3\xA9\" value \"\xC3\xAA\" | [ab]? "
      "value? "
      "| \"\"";
  for (int round = 0; round < 10; ++round) {
    const auto trie = RandomTrie(random);
    const auto plenty = Compile(text, trie);
    const auto little = Compile(text, trie, {.max_state_bytes = 100'000, .max_mask_bytes = 1000});
    GrammarMatcher one(plenty);
    GrammarMatcher other(little);
    for (int step = 0; step < 30; ++step) {
      std::vector<uint64_t> mask(plenty->mask_words());
      std::vector<uint64_t> same(plenty->mask_words());
      ASSERT_TRUE(one.FillMask(mask).ok());
      const absl::Status filled = other.FillMask(same);
      if (!filled.ok()) {  // never another mask
        ASSERT_EQ(filled.code(), absl::StatusCode::kResourceExhausted);
        break;
      }
      ASSERT_EQ(mask, same);
      std::vector<int32_t> choices;
      for (int32_t id = 2; id < trie->vocab_size(); ++id) {
        if (Has(mask, id)) choices.push_back(id);
      }
      if (choices.empty()) break;
      const int32_t id = choices[random() % choices.size()];
      ASSERT_TRUE(one.AcceptToken(id).ok());
      if (!other.AcceptToken(id).ok()) break;
    }
  }
}

TEST(Matcher, ForksGoTheirOwnWay) {
  const auto trie = MakeTrie({"</s>", "a", "b", "ab", "c"}, {0});
  const auto grammar = Compile("root ::= \"a\" (\"b\" | \"c\")", trie);
  GrammarMatcher matcher(grammar);
  ASSERT_TRUE(matcher.AcceptToken(1).ok());
  GrammarMatcher left = matcher.Fork();
  GrammarMatcher right = matcher.Fork();
  EXPECT_TRUE(left.AcceptToken(2).ok());
  EXPECT_TRUE(left.IsComplete());
  EXPECT_FALSE(right.IsComplete());
  EXPECT_TRUE(right.AcceptToken(4).ok());
  EXPECT_TRUE(left.AcceptToken(0).ok());
  EXPECT_TRUE(left.ended());
  EXPECT_FALSE(matcher.IsComplete());
  EXPECT_EQ(matcher.ShortestCompletion().value().size(), 1u);
}

TEST(Matcher, TakesTokensBack) {
  const auto trie = MakeTrie({"</s>", "a", "b", "ab", "c"}, {0});
  const auto grammar = Compile("root ::= \"a\"* \"b\" \"c\"", trie);
  GrammarMatcher matcher(grammar);
  std::vector<std::vector<uint64_t>> masks;
  for (const int32_t id : {1, 3, 4, 0}) {
    masks.emplace_back(grammar->mask_words());
    ASSERT_TRUE(matcher.FillMask(masks.back()).ok());
    ASSERT_TRUE(matcher.AcceptToken(id).ok());
  }
  EXPECT_TRUE(matcher.ended());
  EXPECT_EQ(matcher.Rollback(5).code(), absl::StatusCode::kOutOfRange);
  ASSERT_TRUE(matcher.Rollback(0).ok());
  std::vector<uint64_t> mask(grammar->mask_words());
  ASSERT_TRUE(matcher.Rollback(1).ok());
  ASSERT_TRUE(matcher.FillMask(mask).ok());
  EXPECT_EQ(mask, masks[3]);
  ASSERT_TRUE(matcher.Rollback(2).ok());
  ASSERT_TRUE(matcher.FillMask(mask).ok());
  EXPECT_EQ(mask, masks[1]);
  EXPECT_TRUE(matcher.AcceptToken(2).ok());
}

TEST(Matcher, RefusesWhatTheMaskDoesNotHoldAndStaysWhereItWas) {
  const auto trie = MakeTrie({"</s>", "a", "b", ""}, {0});
  const auto grammar = Compile("root ::= \"ab\"", trie);
  GrammarMatcher matcher(grammar);
  for (const int32_t id : {0, 2, 3, -1, 4}) {
    EXPECT_EQ(matcher.AcceptToken(id).code(), absl::StatusCode::kInvalidArgument) << id;
  }
  EXPECT_TRUE(matcher.AcceptToken(1).ok());
  EXPECT_TRUE(matcher.AcceptByte('b').ok());
  EXPECT_TRUE(matcher.IsComplete());
  EXPECT_TRUE(matcher.AcceptToken(0).ok());
  EXPECT_THAT(std::string(matcher.AcceptToken(1).message()), HasSubstr("has ended"));
  std::vector<uint64_t> mask(grammar->mask_words());
  EXPECT_TRUE(matcher.FillMask(mask).ok());
  EXPECT_EQ(mask[0], 0u);
}

TEST(Matcher, WhatMatchesNothingDoesNotCompile) {
  const auto grammar = ParseGrammar("root ::= \"a\" root");
  ASSERT_TRUE(grammar.ok());
  EXPECT_EQ(CompiledGrammar::Compile(*grammar, MakeTrie({"a"}, {})).status().code(),
            absl::StatusCode::kInvalidArgument);
  const auto ambiguous = ParseGrammar("root ::= n{20000} \"x\"\nn ::= \"aaaaaaaaa\" | \"\"\n");
  ASSERT_TRUE(ambiguous.ok()) << ambiguous.status();
  EXPECT_EQ(CompiledGrammar::Compile(*ambiguous, MakeTrie({"a"}, {0})).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(Matcher, LimitsAreErrorsAndNothingElse) {
  const auto trie = MakeTrie({"</s>", "(", ")"}, {0});
  const auto grammar =
      Compile("root ::= \"(\" root \")\" | \"\"", trie, {.max_state_bytes = 50'000});
  GrammarMatcher matcher(grammar);
  absl::Status status;
  int depth = 0;
  for (; status.ok() && depth < 100'000; ++depth) status = matcher.AcceptToken(1);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  // Another text of the same grammar is not concerned once the first has gone.
  matcher = GrammarMatcher(grammar);
  EXPECT_TRUE(matcher.AcceptToken(1).ok());
}

TEST(Matcher, WorkOfOneAnswerIsBounded) {
  // Each further "a" is a new state of ever more items.
  const std::string text = "root ::= [ab]* \"a\" [ab]{200} \"c\"";
  const auto trie = MakeTrie({"</s>", "a", "b", "c"}, {0});
  const auto run = [&](GrammarMatcher& matcher) {
    for (int step = 0; step < 200; ++step) {
      if (absl::Status status = matcher.AcceptToken(1); !status.ok()) return status;
    }
    return absl::OkStatus();
  };
  const auto plenty = Compile(text, trie);
  GrammarMatcher unlimited(plenty);
  ASSERT_TRUE(run(unlimited).ok());
  const auto compile = [&](uint64_t work_per_step) {
    return Compile(text, trie, {.answer_work = 3000, .work_per_step = work_per_step});
  };
  const auto little = compile(1);
  GrammarMatcher matcher(little);
  const absl::Status status = run(matcher);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("one answer"));
  GrammarMatcher fork = matcher.Fork();
  EXPECT_FALSE(run(fork).ok()) << "a fork has no more than what is left";
  // Another text has its own.
  GrammarMatcher other(little);
  EXPECT_TRUE(other.AcceptToken(1).ok());
  const auto enough = compile(3000);
  GrammarMatcher slow(enough);
  EXPECT_TRUE(run(slow).ok()) << "no single token takes much";
}

TEST(Vocabulary, IsChecked) {
  EXPECT_EQ(TokenTrie::Create({}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(TokenTrie::Create({.bytes = {"a"}, .end_ids = {1}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(TokenTrie::Create({.bytes = {std::string(5000, 'a')}}).status().code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace octogate::workers
