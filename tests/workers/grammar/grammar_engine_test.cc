// An engine whose answers keep to a grammar.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/run_requests.h"
#include "tests/workers/engine/test_models.h"
#include "workers/grammar/grammar_constraint.h"
#include "workers/grammar/sql_grammar.h"

namespace octogate::workers {
namespace {

std::shared_ptr<const CompiledGrammar> Compile(const Engine& engine,
                                               const absl::StatusOr<Grammar>& grammar) {
  EXPECT_TRUE(grammar.ok()) << grammar.status();
  auto bytes = engine.tokenizer()->TokenBytes();
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  auto trie =
      TokenTrie::Create({.bytes = *std::move(bytes), .end_ids = engine.config().eos_token_ids});
  EXPECT_TRUE(trie.ok()) << trie.status();
  auto compiled =
      CompiledGrammar::Compile(*grammar, std::make_shared<const TokenTrie>(*std::move(trie)));
  EXPECT_TRUE(compiled.ok()) << compiled.status();
  return *std::move(compiled);
}

class GrammarEngine : public ::testing::Test {
 protected:
  GrammarEngine() : engine_(MakeEngine(FixturePath("llama3"), {.kv_tokens = 4096})) {}

  GenerateRequest Request(const std::shared_ptr<const CompiledGrammar>& grammar, uint64_t seed) {
    GenerateRequest request;
    request.prompt = {1, 2, static_cast<int32_t>(3 + seed % 50)};
    request.max_tokens = 40;
    request.sampling.temperature = 1;
    request.sampling.seed = seed;
    request.constraint = std::make_shared<GrammarConstraint>(GrammarMatcher(grammar));
    return request;
  }

  std::unique_ptr<Engine> engine_;
};

TEST_F(GrammarEngine, AnswersAreTextsOfTheGrammarInAnyBatch) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  const auto grammar = Compile(*engine_, JsonGrammar());
  std::vector<GenerateRequest> requests;
  for (uint32_t i = 0; i < 30; ++i) requests.push_back(Request(grammar, seed + i));
  const std::vector<Outcome> alone = RunAll(*engine_, requests, /*together=*/false);
  ExpectSameAnswers(RunAll(*engine_, requests, /*together=*/true), alone);
  int stopped = 0;
  for (const Outcome& outcome : alone) {
    ASSERT_TRUE(outcome.finish == FinishReason::kStop || outcome.finish == FinishReason::kLength);
    GrammarMatcher matcher(grammar);
    for (const int32_t id : outcome.ids) {
      const absl::Status status = matcher.AcceptToken(id);
      ASSERT_TRUE(status.ok()) << status;
    }
    EXPECT_EQ(matcher.ended(), outcome.finish == FinishReason::kStop);
    if (!matcher.ended()) continue;
    ++stopped;
    try {
      [[maybe_unused]] const auto value = nlohmann::json::parse(outcome.text);
    } catch (const nlohmann::json::out_of_range&) {
    } catch (const nlohmann::json::exception& error) {
      ADD_FAILURE() << outcome.text << ": " << error.what();
    }
  }
  EXPECT_GT(stopped, 0);
}

TEST_F(GrammarEngine, AnswersGoOnWhereAnEarlierAttemptStopped) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  const auto grammar = Compile(*engine_, ParseGrammar("root ::= (\"ab\" | \"cd\"){40}"));
  const GenerateRequest whole = Request(grammar, seed);
  const std::vector<Outcome> first = RunAll(*engine_, {whole}, false);
  ASSERT_GT(first[0].ids.size(), 5u);
  GenerateRequest rest = whole;
  rest.generated_prefix.assign(first[0].ids.begin(), first[0].ids.begin() + 5);
  const std::vector<Outcome> second = RunAll(*engine_, {rest}, false);
  EXPECT_EQ(second[0].ids, std::vector<int32_t>(first[0].ids.begin() + 5, first[0].ids.end()));

  rest.generated_prefix = {first[0].ids[0], 0, 0, 0};
  EXPECT_EQ(engine_->Submit(rest, [](const GenerateEvent&) {}).status().code(),
            absl::StatusCode::kInvalidArgument);
  rest.generated_prefix.clear();
  rest.sampling.allowed_first_tokens = {5};
  EXPECT_EQ(engine_->Submit(rest, [](const GenerateEvent&) {}).status().code(),
            absl::StatusCode::kInvalidArgument);
  rest.sampling.allowed_first_tokens.clear();
  rest.ignore_eos = true;
  EXPECT_EQ(engine_->Submit(rest, [](const GenerateEvent&) {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// A constraint that counts what it and its forks are told.
class CountedConstraint : public TokenConstraint {
 public:
  CountedConstraint(std::unique_ptr<TokenConstraint> constraint, std::shared_ptr<int> accepts)
      : constraint_(std::move(constraint)), accepts_(std::move(accepts)) {}
  std::unique_ptr<TokenConstraint> Fork() const override {
    return std::make_unique<CountedConstraint>(constraint_->Fork(), accepts_);
  }
  size_t mask_words() const override { return constraint_->mask_words(); }
  absl::Status FillMask(std::span<uint64_t> words) const override {
    return constraint_->FillMask(words);
  }
  absl::Status Accept(int32_t id) override {
    ++*accepts_;
    return constraint_->Accept(id);
  }

 private:
  const std::unique_ptr<TokenConstraint> constraint_;
  const std::shared_ptr<int> accepts_;
};

TEST_F(GrammarEngine, ReplayStopsAtTheFirstError) {
  const auto grammar = Compile(*engine_, ParseGrammar("root ::= \"ab\"{40}"));
  GenerateRequest request = Request(grammar, FreshSeed());
  const auto accepts = std::make_shared<int>(0);
  request.constraint = std::make_shared<CountedConstraint>(request.constraint->Fork(), accepts);
  request.generated_prefix.assign(20, *engine_->tokenizer()->TokenId("z"));
  EXPECT_EQ(engine_->Submit(request, [](const GenerateEvent&) {}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(*accepts, 1);
}

TEST_F(GrammarEngine, AnswersAreTheSameWherePagesAreTakenAway) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  const auto grammar = Compile(*engine_, ParseGrammar("root ::= (\"[\" root \"]\" | [a-z]){20,}"));
  std::vector<GenerateRequest> requests;
  for (uint32_t i = 0; i < 8; ++i) requests.push_back(Request(grammar, seed + i));
  for (GenerateRequest& request : requests) request.sampling.logprobs = 0;
  const std::vector<Outcome> expected = RunAll(*engine_, requests, /*together=*/false);
  // Computed again, and copied to the swap space and back.
  for (const uint64_t swap_bytes : {uint64_t{0}, uint64_t{64} << 20}) {
    SCOPED_TRACE(swap_bytes);
    const auto tight = MakeEngine(FixturePath("llama3"), {.max_sequences = 8,
                                                          .max_rows_per_step = 19,
                                                          .page_size = 5,
                                                          .kv_tokens = 60,
                                                          .swap_bytes = swap_bytes});
    ASSERT_NE(tight, nullptr);
    ExpectSameAnswers(RunAll(*tight, requests, /*together=*/true), expected);
    EXPECT_GT(tight->stats().preemptions, 0u);
  }
}

TEST_F(GrammarEngine, AnAnswerThatNeedsTooMuchWorkEndsAlone) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  const auto normal = Compile(*engine_, JsonGrammar());
  // Within the first tokens, a mask takes more items than may be handled.
  std::string many = "root ::= r0";
  for (int i = 1; i < 1000; ++i) many += " | r" + std::to_string(i);
  for (int i = 0; i < 1000; ++i) {
    many += "\nr" + std::to_string(i) + " ::= [ -~]* [" + std::string(1, 'a' + i % 26) +
            "-z] [ -~]{" + std::to_string(20 + i % 7) + "}";
  }
  const auto compiled =
      CompiledGrammar::Compile(*ParseGrammar(many), normal->shared_trie(), {.step_work = 100'000});
  ASSERT_TRUE(compiled.ok()) << compiled.status();
  const auto hostile = *compiled;
  std::vector<GenerateRequest> requests;
  for (uint32_t i = 0; i < 4; ++i) requests.push_back(Request(normal, seed + i));
  const std::vector<Outcome> expected = RunAll(*engine_, requests, /*together=*/false);
  for (uint32_t i = 0; i < 4; ++i) {
    requests.insert(requests.begin() + 2 * i, Request(hostile, seed + i));
  }
  const std::vector<Outcome> outcomes = RunAll(*engine_, requests, /*together=*/true);
  std::vector<Outcome> neighbours;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    if (i % 2 == 0) {
      EXPECT_EQ(outcomes[i].finish, FinishReason::kError);
      EXPECT_EQ(outcomes[i].last_events, 1);
    } else {
      neighbours.push_back(outcomes[i]);
    }
  }
  ExpectSameAnswers(neighbours, expected);
}

TEST_F(GrammarEngine, StopTokensEndAnswersWhereTheyMayEnd) {
  const auto grammar = Compile(*engine_, ParseGrammar("root ::= [a-z]{2}"));
  const int32_t letter = *engine_->tokenizer()->TokenId("q");
  const int32_t special = engine_->tokenizer()->bos_id().value();
  GrammarConstraint constraint(GrammarMatcher(grammar), {letter, special});
  std::vector<uint64_t> mask(constraint.mask_words());
  ASSERT_TRUE(constraint.FillMask(mask).ok());
  EXPECT_FALSE(IsAllowed(mask, letter)) << "the text is not complete";
  EXPECT_FALSE(IsAllowed(mask, special));
  EXPECT_FALSE(constraint.Accept(letter).ok());
  for (const char* text : {"a", "b"}) {
    ASSERT_TRUE(constraint.Accept(*engine_->tokenizer()->TokenId(text)).ok());
  }
  ASSERT_TRUE(constraint.FillMask(mask).ok());
  for (const int32_t id : {letter, special, engine_->config().eos_token_ids[0]}) {
    EXPECT_TRUE(IsAllowed(mask, id)) << id;
    const auto fork = constraint.Fork();
    ASSERT_TRUE(fork->Accept(id).ok());
    ASSERT_TRUE(fork->FillMask(mask).ok());
    EXPECT_EQ(std::count(mask.begin(), mask.end(), uint64_t{0}), std::ssize(mask));
    EXPECT_FALSE(fork->Accept(letter).ok());
    ASSERT_TRUE(constraint.FillMask(mask).ok());
  }
}

TEST_F(GrammarEngine, WhatNoTokenSpellsIsAnError) {
  // A vocabulary in which nothing has bytes.
  auto trie = TokenTrie::Create({.bytes = std::vector<std::string>(10)});
  ASSERT_TRUE(trie.ok());
  const auto grammar = CompiledGrammar::Compile(
      *ParseGrammar("root ::= \"a\""), std::make_shared<const TokenTrie>(*std::move(trie)));
  ASSERT_TRUE(grammar.ok());
  absl::Status status;
  absl::Notification ended;
  const auto generation = engine_->Submit(Request(*grammar, 1), [&](const GenerateEvent& event) {
    if (event.finish == FinishReason::kNone) return;
    status = event.status;
    ended.Notify();
  });
  ASSERT_TRUE(generation.ok()) << generation.status();
  ASSERT_TRUE(ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
}

}  // namespace
}  // namespace octogate::workers
