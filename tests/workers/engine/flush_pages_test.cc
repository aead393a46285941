// What is flushed is found by nobody, and harms nobody who is under way.
#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/run_requests.h"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/engine.h"
#include "workers/engine/generate.h"

namespace octogate::workers {
namespace {

absl::Time Soon() { return absl::Now() + kLong; }

int CachedTokens(Engine& engine, const GenerateRequest& request) {
  const auto answer = Generate(engine, request);
  EXPECT_TRUE(answer.ok()) << answer.status();
  return answer.ok() ? answer->usage.cached_tokens : -1;
}

FlushedPages Flush(Engine& engine, const PageFlush& flush) {
  const absl::StatusOr<FlushedPages> flushed = engine.FlushPages(flush, Soon());
  EXPECT_TRUE(flushed.ok()) << flushed.status();
  return flushed.value_or(FlushedPages());
}

TEST(FlushPagesTest, NothingOfBeforeIsFound) {
  const auto engine = MakeEngine(FixturePath("llama"), {.page_size = 4});
  const GenerateRequest request = RequestFor(std::vector<int32_t>(21, 9), 3);
  EXPECT_EQ(CachedTokens(*engine, request), 0);
  EXPECT_EQ(CachedTokens(*engine, request), 20);
  const FlushedPages flushed = Flush(*engine, {.id = "a"});
  EXPECT_EQ(flushed.free, 5);
  EXPECT_EQ(flushed.in_use, 0);
  EXPECT_EQ(engine->stats().pages_idle, 0);
  EXPECT_EQ(engine->stats().flushed_pages, 5u);
  EXPECT_EQ(CachedTokens(*engine, request), 0);
  EXPECT_EQ(CachedTokens(*engine, request), 20);
  EXPECT_EQ(Flush(*engine, {.id = "b"}).free, 5);
  EXPECT_EQ(Flush(*engine, {.id = "c"}).free, 0);
}

TEST(FlushPagesTest, OfOneSaltTheOthersKeepTheirs) {
  const auto engine = MakeEngine(FixturePath("llama"), {.page_size = 4});
  const auto cached = [&](const std::string& salt) {
    return CachedTokens(*engine, RequestFor(std::vector<int32_t>(21, 9), 3, salt));
  };
  const std::vector<std::string> salts = {"", "a", "ab", "s"};
  for (const std::string& salt : salts) EXPECT_EQ(cached(salt), 0);
  EXPECT_EQ(Flush(*engine, {.id = "x", .cache_salt = "a"}).free, 5);
  for (const std::string& salt : salts) EXPECT_EQ(cached(salt), salt == "a" ? 0 : 20) << salt;
  EXPECT_EQ(Flush(*engine, {.id = "y", .cache_salt = ""}).free, 5);
  for (const std::string& salt : salts) EXPECT_EQ(cached(salt), salt.empty() ? 0 : 20) << salt;
}

TEST(FlushPagesTest, WhatIsUnderWayKeepsItsPagesAndLeavesNothing) {
  const auto engine = MakeEngine(FixturePath("llama"), {.page_size = 4});
  const auto alone = MakeEngine(FixturePath("llama"), {.share_prefixes = false});
  const GenerateRequest request = RequestFor(std::vector<int32_t>(21, 9), 60);
  const std::vector<Outcome> expected = RunAll(*alone, {request}, false);
  EXPECT_EQ(CachedTokens(*engine, request), 0);
  // The engine's thread is held in the midst of an answer while the flush is asked for.
  std::vector<Outcome> got(1);
  absl::Notification begun, go_on, ended;
  const auto generation = engine->Submit(request, [&](const GenerateEvent& event) {
    Outcome& outcome = got[0];
    outcome.ids.insert(outcome.ids.end(), event.ids.begin(), event.ids.end());
    for (const auto& token : event.logprobs) outcome.logprobs.push_back(token.logprob);
    if (outcome.ids.size() == 10) {
      begun.Notify();
      go_on.WaitForNotification();
    }
    outcome.text += event.text;
    outcome.finish = event.finish;
    if (event.finish == FinishReason::kNone) return;
    ++outcome.last_events;
    ended.Notify();
  });
  ASSERT_TRUE(generation.ok());
  begun.WaitForNotification();
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      engine->FlushPages({.id = "a"}, absl::Now() + absl::Milliseconds(1)).status()));
  go_on.Notify();
  ASSERT_TRUE(ended.WaitForNotificationWithTimeout(kLong));
  ExpectSameAnswers(got, expected);
  // Of nobody, which returns when what has happened is counted.
  Flush(*engine, {.id = "b", .cache_salt = "nobody"});
  EXPECT_GT(engine->stats().flushed_in_use, 0u);
  EXPECT_EQ(engine->stats().pages_used, 0);
  EXPECT_EQ(engine->stats().pages_idle, 0);
  EXPECT_EQ(CachedTokens(*engine, request), 0);
}

// Flushes while requests begin, share, are preempted and end, by salt and of all.
TEST(FlushPagesTest, AnswersAreThoseWithoutFlushes) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto pick = [&](int from, int to) {
    return std::uniform_int_distribution<int>(from, to)(random);
  };
  for (const char* model : {"llama", "phi3_longrope"}) {
    SCOPED_TRACE(model);
    const auto alone =
        MakeEngine(FixturePath(model), {.max_sequences = 1, .share_prefixes = false});
    ASSERT_NE(alone, nullptr);
    const int longest = std::min(alone->context() - 40, 150);
    const auto text = RandomIds(random, longest, alone->config().vocab_size);
    std::vector<GenerateRequest> requests;
    for (int i = 0; i < 40; ++i) {
      std::vector<int32_t> prompt(text.begin(), text.begin() + pick(1, longest));
      requests.push_back(RequestFor(std::move(prompt), pick(1, 40), pick(0, 1) == 0 ? "s" : ""));
      requests.back().terms.priority = pick(0, 2);
    }
    const std::vector<Outcome> expected = RunAll(*alone, requests, false);
    for (const uint64_t swap_bytes : {0, 1 << 20}) {
      const auto engine = MakeEngine(FixturePath(model),
                                     {.max_sequences = 6,
                                      .max_rows_per_step = 23,
                                      .page_size = 5,
                                      .kv_tokens = longest + 60,
                                      .swap_bytes = swap_bytes},
                                     2);
      std::atomic<bool> done = false;
      std::thread flusher([&] {
        std::mt19937 own(seed + 1);
        for (int i = 0; !done; ++i) {
          PageFlush flush{.id = absl::StrCat(i), .cache_salt = std::nullopt};
          if (own() % 2 == 0) flush.cache_salt = own() % 2 == 0 ? "s" : "";
          EXPECT_TRUE(engine->FlushPages(flush, Soon()).ok());
          absl::SleepFor(absl::Microseconds(own() % 3000));
        }
      });
      for (int round = 0; round < 3; ++round) {
        ExpectSameAnswers(RunAll(*engine, requests, true), expected);
      }
      done = true;
      flusher.join();
      Flush(*engine, {.id = "last"});
      EXPECT_EQ(engine->stats().pages_used, 0);
      EXPECT_EQ(engine->stats().pages_idle, 0);
      for (const char* salt : {"s", ""}) {
        EXPECT_EQ(CachedTokens(*engine, RequestFor(text, 1, salt)), 0);
      }
      ExpectSameAnswers(RunAll(*engine, requests, true), expected);
      EXPECT_GT(engine->stats().prefix_hit_tokens, 0u);
    }
  }
}

}  // namespace
}  // namespace octogate::workers
