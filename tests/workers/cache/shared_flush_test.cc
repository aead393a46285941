// Flushes of pages that engines share through a real redis-server.
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/workers/cache/shared_engines.h"
#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

constexpr int kPageSize = 4;
constexpr int kPages = 15;
constexpr int kPromptLength = kPageSize * kPages + 1;
// An engine that hears of no flush but by being told.
constexpr absl::Duration kNever = absl::Hours(24);

absl::Time Soon() { return absl::Now() + kLong; }

class SharedFlushTest : public ::testing::Test {
 protected:
  SharedFlushTest() {
    without_ = MakeEngine(FixturePath("llama"), {.page_size = kPageSize, .share_prefixes = false});
  }

  std::unique_ptr<Engine> NewEngine(absl::Duration flush_interval = absl::Milliseconds(20)) {
    return NewEngine(server_.options(), {.flush_interval = flush_interval});
  }
  static std::unique_ptr<Engine> NewEngine(RedisOptions redis, RedisPageStoreOptions store) {
    redis.connections = 4;
    store.timeout = absl::Seconds(10);
    store.write_from_use = 1;
    EngineOptions options{.page_size = kPageSize};
    options.make_page_store = ShareThroughRedis(RedisClient::Create(redis), std::move(store));
    return MakeEngine(FixturePath("llama"), options);
  }

  std::vector<int32_t> NewPrompt() {
    return RandomIds(random_, kPromptLength, without_->config().vocab_size);
  }

  // The answer of `engine`, which has to be the right one, bit for bit.
  Outcome Ask(Engine& engine, const std::vector<int32_t>& prompt, const std::string& salt = "") {
    const std::vector<GenerateRequest> requests = {SharedRequest(prompt, 3, salt)};
    const std::vector<Outcome> answer = RunAll(engine, requests, false);
    ExpectSameAnswers(answer, RunAll(*without_, requests, false));
    return answer[0];
  }
  // What an engine finds that has nothing itself, and writes nothing.
  int Shared(const std::vector<int32_t>& prompt, const std::string& salt = "") {
    return Ask(*NewEngine(server_.options(), {.max_write_bytes = 1}), prompt, salt).shared_tokens;
  }
  // Has an engine compute a prompt, and waits until others find it.
  std::vector<int32_t> Write(Engine& engine, const std::string& salt = "") {
    auto prompt = NewPrompt();
    const int64_t before = StoredPages(server_);
    Ask(engine, prompt, salt);
    AwaitStored(server_, before + kPages);
    EXPECT_EQ(Shared(prompt, salt), kPages * kPageSize);
    return prompt;
  }

  absl::Status Flush(Engine& engine, std::optional<std::string> salt = std::nullopt,
                     std::string id = "") {
    if (id.empty()) id = absl::StrCat("id", ++flushes_);
    return engine.FlushPages({.id = std::move(id), .cache_salt = std::move(salt)}, Soon()).status();
  }

  RedisReply Call(const std::vector<std::string_view>& command) {
    const auto client = RedisClient::Create(server_.options());
    auto reply = client->Call(command, Soon());
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.value_or(RedisReply());
  }
  // The name of the marks.
  std::string Marks() {
    const RedisReply names = Call({"KEYS", "octogate:kv:flushes:*"});
    EXPECT_EQ(names.elements.size(), 1u);
    return names.elements.empty() ? "" : names.elements[0].text;
  }

  static bool Eventually(const std::function<bool()>& holds) {
    const absl::Time give_up = Soon();
    while (!holds()) {
      if (absl::Now() > give_up) return false;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return true;
  }

  const uint32_t seed_ = FreshSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, DescribeSeed(seed_)};
  std::mt19937 random_{seed_};
  int flushes_ = 0;
  RedisServer server_;
  std::unique_ptr<Engine> without_;
};

TEST_F(SharedFlushTest, NobodyFindsWhatWasWrittenBefore) {
  const auto first = NewEngine(kNever);
  const auto second = NewEngine(kNever);
  const auto prompt = Write(*first);
  EXPECT_EQ(Ask(*second, prompt).shared_tokens, kPages * kPageSize);
  ASSERT_TRUE(Flush(*first, std::nullopt, "a").ok());
  EXPECT_EQ(Ask(*first, prompt).cached_tokens, 0);
  // Who begins after it, and who is told of the same one, which flushes nothing of what is new.
  AwaitStored(server_, 2 * kPages);
  EXPECT_EQ(Shared(prompt), kPages * kPageSize);
  ASSERT_TRUE(Flush(*second, std::nullopt, "a").ok());
  const Outcome fetched = Ask(*second, prompt);
  EXPECT_EQ(fetched.shared_tokens, kPages * kPageSize) << "its own is forgotten, the new one found";
  EXPECT_EQ(Ask(*first, prompt).cached_tokens, kPages * kPageSize);
}

TEST_F(SharedFlushTest, WhoIsNotToldHearsOfItAndForgetsItsOwn) {
  const auto told = NewEngine(kNever);
  const auto other = NewEngine();
  const auto prompt = Write(*other);
  const auto salted = Write(*other, "a");
  ASSERT_TRUE(Flush(*told, "a").ok());
  // It is idle: its engine hears of it with the next request.
  EXPECT_TRUE(Eventually([&] {
    Ask(*other, NewPrompt());
    return other->stats().flushed_pages > 0;
  }));
  EXPECT_EQ(Ask(*other, prompt).cached_tokens, kPages * kPageSize);
  EXPECT_EQ(Ask(*other, prompt).shared_tokens, 0) << "another tenant's are where they were";
  EXPECT_EQ(Ask(*other, salted, "a").cached_tokens, 0);
}

TEST_F(SharedFlushTest, OfOneSaltTheOthersKeepTheirs) {
  const auto first = NewEngine(kNever);
  const auto a = Write(*first, "a");
  const auto b = Write(*first, "b");
  const auto none = Write(*first);
  ASSERT_TRUE(Flush(*first, "a").ok());
  EXPECT_EQ(Shared(b, "b"), kPages * kPageSize);
  EXPECT_EQ(Shared(none), kPages * kPageSize);
  EXPECT_EQ(Shared(a, "a"), 0);
  EXPECT_EQ(Ask(*first, b, "b").cached_tokens, kPages * kPageSize);
  ASSERT_TRUE(Flush(*first, "").ok());
  EXPECT_EQ(Shared(b, "b"), kPages * kPageSize);
  EXPECT_EQ(Shared(none), 0);
  ASSERT_TRUE(Flush(*first).ok());
  EXPECT_EQ(Shared(b, "b"), 0);
}

// An engine that has not heard of a flush goes on writing: nothing of it is found.
TEST_F(SharedFlushTest, WhatIsWrittenMeanwhileBringsNothingBack) {
  const auto first = NewEngine(kNever);
  const auto late = NewEngine(kNever);
  const auto prompt = Write(*late);
  ASSERT_TRUE(Flush(*first, std::nullopt, "a").ok());
  const auto later = NewPrompt();
  const int64_t before = StoredPages(server_);
  Ask(*late, later);
  AwaitStored(server_, before + kPages);
  EXPECT_EQ(Shared(later), 0);
  EXPECT_EQ(Shared(prompt), 0);
  // Told at last, it forgets both, and has nothing of them to write again.
  ASSERT_TRUE(Flush(*late, std::nullopt, "a").ok());
  const int64_t stored = StoredPages(server_);
  EXPECT_EQ(Ask(*late, NewPrompt()).cached_tokens, 0);
  AwaitStored(server_, stored + kPages);
  EXPECT_EQ(Shared(later), 0);
  EXPECT_EQ(Ask(*late, prompt).cached_tokens, 0);
}

// Of one that is under way, the answer is right, and what it has computed is nobody's.
TEST_F(SharedFlushTest, WhatIsUnderWayWritesNothing) {
  const auto engine = NewEngine(kNever);
  const auto prompt = Write(*engine);
  absl::Notification begun, go_on, ended;
  size_t tokens = 0;
  const auto generation =
      engine->Submit(SharedRequest(prompt, 60), [&](const GenerateEvent& event) {
        tokens += event.ids.size();
        if (tokens == 20) {
          begun.Notify();
          go_on.WaitForNotification();
        }
        if (event.finish != FinishReason::kNone) ended.Notify();
      });
  ASSERT_TRUE(generation.ok());
  begun.WaitForNotification();
  // The engine's thread is held: the store has taken it, and the thread will.
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      engine->FlushPages({.id = "a", .cache_salt = std::nullopt}, absl::Now() + absl::Seconds(1))
          .status()));
  go_on.Notify();
  ASSERT_TRUE(ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_EQ(tokens, 60u);
  ASSERT_TRUE(Flush(*engine, std::nullopt, "a").ok());
  EXPECT_GT(engine->stats().flushed_in_use, 0u);
  // What is offered later comes later to the store.
  Write(*engine);
  EXPECT_EQ(Shared(prompt), 0);
}

TEST_F(SharedFlushTest, AStoreThatDoesNotAnswerIsToldOfAndTheMemoryIsFlushed) {
  RedisOptions redis = server_.options();
  redis.timeouts = Patient(absl::Milliseconds(100));
  const auto engine = NewEngine(redis, {.flush_interval = kNever});
  const auto prompt = Write(*engine);
  server_.Freeze();
  const absl::Status frozen = Flush(*engine, std::nullopt, "a");
  EXPECT_TRUE(absl::IsUnavailable(frozen) || absl::IsDeadlineExceeded(frozen)) << frozen;
  EXPECT_NE(frozen.message().find("flush again"), std::string::npos) << frozen;
  EXPECT_GE(engine->stats().flushed_pages, static_cast<uint64_t>(kPages));
  EXPECT_EQ(Ask(*engine, prompt).cached_tokens, 0);
  server_.Thaw();
  EXPECT_TRUE(Eventually([&] { return Flush(*engine, std::nullopt, "a").ok(); }));
  EXPECT_EQ(Shared(prompt), 0);
  server_.Kill();
  EXPECT_TRUE(absl::IsUnavailable(Flush(*engine)));
  server_.Start();
  EXPECT_TRUE(Eventually([&] { return Flush(*engine).ok(); }));
  // Not while any of its connections is made again.
  EXPECT_TRUE(Eventually([&] {
    const auto fresh = NewPrompt();
    Ask(*engine, fresh);
    absl::SleepFor(absl::Milliseconds(20));
    return Shared(fresh) > 0;
  }));
}

// However often the engine asks whether pages may be shared, of a server that is gone, or that has
// refused, nothing is asked.
TEST_F(SharedFlushTest, MarksThatCannotBeReadAreNotReadForEveryQuestion) {
  const std::shared_ptr<RedisClient> client = RedisClient::Create(server_.options());
  const auto store = ShareThroughRedis(client, {.flush_interval = kNever})(
      {.description = "pages", .page_size = 1, .page_bytes = 64});
  const auto is_usable = [&] {
    store->TakeFlushed();
    return std::isfinite(store->FetchSeconds(1));
  };
  const auto expect_few_reads = [&] {
    const uint64_t before = client->stats().calls;
    for (int i = 0; i < 500; ++i) {
      EXPECT_FALSE(is_usable());
      absl::SleepFor(absl::Microseconds(200));
    }
    EXPECT_LT(client->stats().calls - before, 10u);
  };
  const auto lose_connections = [&] {
    const uint64_t before = client->stats().connections;
    Call({"CLIENT", "KILL", "TYPE", "normal"});
    EXPECT_TRUE(Eventually([&] { return client->stats().connections >= before + 2; }));
  };
  EXPECT_TRUE(Eventually(is_usable));
  server_.Kill();
  EXPECT_TRUE(Eventually([&] { return !client->stats().reachable; }));
  expect_few_reads();
  server_.Start();
  EXPECT_TRUE(Eventually(is_usable)) << "over new connections they are read at once";
  Call({"ACL", "SETUSER", "default", "-get"});
  lose_connections();
  expect_few_reads();
  Call({"ACL", "SETUSER", "default", "+get"});
  lose_connections();
  EXPECT_TRUE(Eventually(is_usable));
}

TEST_F(SharedFlushTest, LostOrDamagedMarksBringNothingBack) {
  const auto first = NewEngine();
  const auto prompt = Write(*first);
  const std::string before = Call({"GET", Marks()}).text;
  ASSERT_TRUE(Flush(*first).ok());
  ASSERT_TRUE(Flush(*first, "a").ok());
  const std::string after = Call({"GET", Marks()}).text;
  EXPECT_NE(after, before);
  const std::string name = Marks();
  const auto kept = Write(*first, "b");
  const std::vector<std::vector<std::string>> harms = {
      {"DEL", name},
      {"SET", name, ""},
      {"SET", name, "x"},
      {"SET", name, before},  // as a replica would that has lost the last writes
      {"SET", name, after.substr(0, after.size() - 1)},
      {"SET", name, std::string(1 << 20, '\0')},
      {"EVAL", "redis.call('DEL', KEYS[1]) redis.call('LPUSH', KEYS[1], 'x')", "1", name},
  };
  for (size_t i = 0; i < harms.size(); ++i) {
    SCOPED_TRACE(i);
    Call({harms[i].begin(), harms[i].end()});
    // Whoever knows them writes them again.
    EXPECT_TRUE(Eventually([&] {
      return Call({"TYPE", name}).text == "string" && Call({"GET", name}).text == after;
    }));
    EXPECT_EQ(Shared(prompt), 0);
    EXPECT_EQ(Shared(kept, "b"), kPages * kPageSize);
    EXPECT_EQ(Ask(*first, kept, "b").cached_tokens, kPages * kPageSize) << "nothing was flushed";
  }
  EXPECT_GT(Call({"PTTL", Marks()}).integer, absl::ToInt64Milliseconds(absl::Hours(24 * 30)));
}

TEST_F(SharedFlushTest, WithNobodyLeftWhoKnowsTheMarksPagesOfBeforeAreLost) {
  auto engine = NewEngine();
  const auto prompt = Write(*engine);
  engine = nullptr;
  Call({"DEL", Marks()});
  EXPECT_EQ(Shared(prompt), 0);
  Write(*NewEngine());
}

// Engines flush at the same time, by different ids and salts: they come to share again.
TEST_F(SharedFlushTest, ManyAtTheSameTime) {
  std::vector<std::unique_ptr<Engine>> engines;
  for (int i = 0; i < 3; ++i) engines.push_back(NewEngine());
  const auto prompt = Write(*engines[0]);
  const auto salted = Write(*engines[1], "s1");
  std::vector<std::thread> threads;
  for (size_t i = 0; i < engines.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < 30; ++n) {
        const PageFlush flush{.id = absl::StrCat("e", i, "n", n),
                              .cache_salt = absl::StrCat("s", n % 5)};
        const auto flushed = engines[i]->FlushPages(flush, Soon());
        EXPECT_TRUE(flushed.ok() || absl::IsAborted(flushed.status())) << flushed.status();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Shared(salted, "s1"), 0);
  EXPECT_EQ(Shared(prompt), kPages * kPageSize) << "no salt's";
  EXPECT_TRUE(Eventually([&] {
    const auto fresh = NewPrompt();
    Ask(*engines[2], fresh, "s1");
    absl::SleepFor(absl::Milliseconds(20));
    return Ask(*engines[0], fresh, "s1").shared_tokens > 0;
  }));
}

}  // namespace
}  // namespace octogate::workers
