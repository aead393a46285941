// What an engine counts of drafts, and that those which do not pay are made rarely.
#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/speculating_engines.h"
#include "workers/engine/engine.h"
#include "workers/speculation/drafter_factory.h"

namespace octogate::workers {
namespace {

TEST_F(SpeculatingEngineTest, WrongDraftsAreCountedAndNeverAccepted) {
  const auto requests = GreedyRequests(3, 20);
  const auto expected = RunAll(*plain_, requests, false);
  const auto engine = Speculate(Make(Drafting::kWrong, Known(requests, expected)));
  ExpectSameAnswers(RunAll(*engine, requests, true), expected);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  const SpeculationUsage usage = *engine->stats().speculation;
  EXPECT_GT(usage.tokens.drafted, 0);
  EXPECT_EQ(usage.tokens.accepted, 0);
  ASSERT_EQ(usage.drafters.size(), 1u);
  EXPECT_EQ(usage.drafters[0].drafter, "test");
  EXPECT_EQ(usage.drafters[0].tokens.drafted, usage.tokens.drafted);
}

TEST_F(SpeculatingEngineTest, MalformedDraftsAreDroppedAndCounted) {
  const auto requests = GreedyRequests(3, 20);
  const auto expected = RunAll(*plain_, requests, false);
  const auto engine = Speculate(Make(Drafting::kMalformed));
  ExpectSameAnswers(RunAll(*engine, requests, true), expected);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_GT(engine->stats().malformed_drafts, 0u);
  EXPECT_EQ(engine->stats().speculation->tokens.drafted, 0);
}

TEST_F(SpeculatingEngineTest, EveryAnswerTellsWhatSpeculationDidForIt) {
  const auto requests = GreedyRequests(1, 30);
  const auto expected = RunAll(*plain_, requests, false);
  const auto engine = Speculate(Make(Drafting::kOracle, Known(requests, expected)));
  absl::Mutex mutex;
  std::optional<SpeculationUsage> usage;
  size_t largest_event = 0;
  bool ended = false;
  ASSERT_TRUE(engine
                  ->Submit(requests[0],
                           [&](const GenerateEvent& event) {
                             absl::MutexLock lock(&mutex);
                             largest_event = std::max(largest_event, event.ids.size());
                             if (event.finish == FinishReason::kNone) {
                               EXPECT_FALSE(event.speculation);
                               return;
                             }
                             usage = event.speculation;
                             ended = true;
                           })
                  .ok());
  absl::MutexLock lock(&mutex);
  ASSERT_TRUE(mutex.AwaitWithTimeout(absl::Condition(&ended), kLong));
  ASSERT_TRUE(usage);
  EXPECT_EQ(largest_event, 21u) << "what a step accepts is one event";
  EXPECT_EQ(usage->steps + usage->tokens.accepted, 30);
  EXPECT_GT(usage->draft, absl::ZeroDuration());
  EXPECT_GT(usage->verify, absl::ZeroDuration());
  EXPECT_GT(usage->plain, absl::ZeroDuration()) << "of the prompt";
}

TEST_F(SpeculatingEngineTest, WhatDraftersHoldIsCounted) {
  SpeculationOptions options{.drafters = {"lookahead", "recycling", "suffix"}};
  const auto checkpoint = OpenCheckpoint(FixturePath("llama"));
  ASSERT_NE(checkpoint, nullptr);
  auto drafters = MakeDrafters(options, {.checkpoint = checkpoint.get()});
  ASSERT_TRUE(drafters.ok()) << drafters.status();
  const auto engine = MakeSpeculator("llama", {.max_draft_nodes = 8, .verify_all_drafts = true},
                                     *std::move(drafters));
  ASSERT_NE(engine, nullptr);
  const uint64_t before = engine->stats().draft_bytes;
  RunAll(*engine, GreedyRequests(2, 20), true);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  // A table of 8 candidates for every token, and more.
  const auto table = static_cast<uint64_t>(config().vocab_size) * 8 * sizeof(int32_t);
  EXPECT_GE(engine->stats().draft_bytes, before + table);
  EXPECT_EQ(plain_->stats().draft_bytes, 0u);
}

TEST_F(SpeculatingEngineTest, DraftsThatNeverPayAreMadeRarely) {
  const auto requests = GreedyRequests(1, 300);
  const auto expected = RunAll(*plain_, requests, false);
  const auto record = std::make_shared<TestDrafter::Record>();
  Drafters drafters;
  drafters.push_back(Make(Drafting::kWrong, Known(requests, expected), record));
  auto engine =
      MakeSpeculator("llama", {.max_sequences = 1, .max_draft_nodes = 20}, std::move(drafters));
  ExpectSameAnswers(RunAll(*engine, requests, false), expected);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_LT(engine->stats().speculation->tokens.drafted, 100) << "of 300 tokens";
}

// Long enough for requests to stop drafting, as does not pay with so small a model, and to begin
// again; whether they do is a matter of time, which nothing may depend on.
TEST_F(SpeculatingEngineTest, RequestsMayStopToDraftAndBeginAgain) {
  const auto requests = GreedyRequests(3, plain_->context());
  const auto expected = RunAll(*plain_, requests, false);
  const auto record = std::make_shared<TestDrafter::Record>();
  Drafters drafters;
  drafters.push_back(Make(Drafting::kMixed, Known(requests, expected), record));
  auto engine =
      MakeSpeculator("llama", {.max_sequences = 2, .max_draft_nodes = 20}, std::move(drafters));
  ASSERT_NE(engine, nullptr);
  for (int i = 0; i < 3; ++i) ExpectSameAnswers(RunAll(*engine, requests, true), expected);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_GE(engine->stats().speculation->steps, 9);
  EXPECT_EQ(engine->stats().pages_used, 0);
  engine.reset();
  EXPECT_GE(record->scopes.size(), 1u) << "the first request drafts";
}

}  // namespace
}  // namespace octogate::workers
