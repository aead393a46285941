#include "workers/server/grammar_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "workers/server/worker_grammar.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;
using Compiled = GrammarCache::Compiled;

constexpr absl::Duration kLong = absl::Seconds(100);

absl::StatusOr<TokenTrie> Letters() {
  TokenVocabulary vocabulary{.bytes = {""}, .end_ids = {0}};
  for (char c = ' '; c <= '~'; ++c) vocabulary.bytes.emplace_back(1, c);
  return TokenTrie::Create(std::move(vocabulary));
}

v1::WorkerGrammar Rules(const std::string& text) {
  v1::WorkerGrammar grammar;
  grammar.set_ebnf(text);
  return grammar;
}

// Waits for one grammar.
absl::StatusOr<Compiled> Get(GrammarCache& cache, const v1::WorkerGrammar& grammar,
                             absl::Time deadline = absl::InfiniteFuture()) {
  absl::Notification done;
  absl::StatusOr<Compiled> result = absl::UnknownError("no answer");
  cache.Get(grammar, deadline, [&](absl::StatusOr<Compiled> compiled) {
    result = std::move(compiled);
    done.Notify();
  });
  done.WaitForNotification();
  return result;
}

// Keeps the threads of a cache from compiling until it goes: the first trie waits for it.
class Gate {
 public:
  GrammarCache::MakeTrie MakeTrie() {
    return [this] {
      if (!entered_.HasBeenNotified()) entered_.Notify();
      open_.WaitForNotification();
      return Letters();
    };
  }
  void AwaitEntered() { ASSERT_TRUE(entered_.WaitForNotificationWithTimeout(kLong)); }
  void Open() { open_.Notify(); }

 private:
  absl::Notification entered_;
  absl::Notification open_;
};

// Results of many calls.
class Results {
 public:
  GrammarCache::OnGrammar Add() {
    absl::MutexLock lock(&mutex_);
    ++wanted_;
    return [this](absl::StatusOr<Compiled> compiled) {
      absl::MutexLock own(&mutex_);
      results_.push_back(std::move(compiled));
    };
  }
  std::vector<absl::StatusOr<Compiled>> Await() {
    absl::MutexLock lock(&mutex_);
    const auto all = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return results_.size() == wanted_;
    };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&all), kLong));
    return results_;
  }

 private:
  absl::Mutex mutex_;
  size_t wanted_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<absl::StatusOr<Compiled>> results_ ABSL_GUARDED_BY(mutex_);
};

TEST(GrammarCache, OneGrammarIsCompiledOnce) {
  Gate gate;
  GrammarCache cache(gate.MakeTrie());
  Results results;
  for (int i = 0; i < 20; ++i) {
    cache.Get(Rules("root ::= \"a\"+"), absl::InfiniteFuture(), results.Add());
  }
  gate.Open();
  const auto compiled = results.Await();
  ASSERT_EQ(compiled.size(), 20u);
  for (const auto& grammar : compiled) {
    ASSERT_TRUE(grammar.ok()) << grammar.status();
    EXPECT_EQ(*grammar, *compiled[0]);
  }
  EXPECT_EQ(*Get(cache, Rules("root ::= \"a\"+")), *compiled[0]);
  EXPECT_NE(*Get(cache, Rules("root ::= \"b\"+")), *compiled[0]);
  EXPECT_EQ(cache.stats().compiled, 2u);
  EXPECT_EQ(cache.stats().found, 20u);
}

TEST(GrammarCache, WhatIsThereComesAtOnce) {
  GrammarCache cache(Letters);
  ASSERT_TRUE(Get(cache, Rules("root ::= \"a\"")).ok());
  bool called = false;
  cache.Get(Rules("root ::= \"a\""), absl::InfiniteFuture(),
            [&](absl::StatusOr<Compiled> compiled) { called = compiled.ok(); });
  EXPECT_TRUE(called);
}

TEST(GrammarCache, ErrorsSayWhatAndWhere) {
  GrammarCache cache(Letters);
  const auto syntax = Get(cache, Rules("root ::= \"a\"\n  | )"));
  EXPECT_EQ(syntax.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(syntax.status().message()), HasSubstr(":2:5:"));
  const auto nothing = Get(cache, Rules("root ::= \"a\" root"));
  EXPECT_EQ(nothing.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(nothing.status().message()), HasSubstr("no text matches"));
  v1::WorkerGrammar schema;
  schema.set_json_schema(R"({"type": "objekt"})");
  EXPECT_EQ(Get(cache, schema).status().code(), absl::StatusCode::kInvalidArgument);
  schema.set_json_schema(R"({"not": {}})");
  EXPECT_EQ(Get(cache, schema).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Get(cache, {}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Get(cache, Rules(std::string(kMaxGrammarBytes + 1, ' '))).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(cache.stats().entries, 0u) << "what failed is not kept";
}

TEST(GrammarCache, AVocabularyThatSpellsNothingIsAnErrorOfEveryCall) {
  int made = 0;
  GrammarCache cache([&made]() -> absl::StatusOr<TokenTrie> {
    ++made;
    return absl::UnimplementedError("no bytes");
  });
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Get(cache, Rules("root ::= \"a\"")).status().code(),
              absl::StatusCode::kUnimplemented);
  }
  EXPECT_EQ(made, 1);
}

TEST(GrammarCache, WhatWaitsIsBounded) {
  Gate gate;
  GrammarCache cache(gate.MakeTrie(), {.max_waiting = 3, .threads = 1});
  Results results;
  cache.Get(Rules("root ::= \"x\""), absl::InfiniteFuture(), results.Add());
  gate.AwaitEntered();
  for (int i = 0; i < 10; ++i) {
    cache.Get(Rules(absl::StrCat("root ::= \"", i, "\"")), absl::InfiniteFuture(), results.Add());
  }
  gate.Open();
  int refused = 0;
  for (const auto& result : results.Await()) {
    if (result.ok()) continue;
    ++refused;
    EXPECT_EQ(result.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_GT(RetryAfter(result.status()), absl::ZeroDuration());
  }
  EXPECT_EQ(refused, 7);
}

TEST(GrammarCache, WhoWaitsIsBoundedForAllGrammarsTogether) {
  Gate gate;
  GrammarCache cache(gate.MakeTrie(), {.max_waiters = 4, .threads = 1});
  Results results;
  for (int i = 0; i < 3; ++i) {
    cache.Get(Rules("root ::= \"x\""), absl::InfiniteFuture(), results.Add());
  }
  gate.AwaitEntered();
  cache.Get(Rules("root ::= \"y\""), absl::InfiniteFuture(), results.Add());
  EXPECT_EQ(cache.stats().waiters, 4u);
  Results refused;
  for (const char* text : {"root ::= \"x\"", "root ::= \"y\"", "root ::= \"z\""}) {
    cache.Get(Rules(text), absl::InfiniteFuture(), refused.Add());
  }
  for (const auto& result : refused.Await()) {
    EXPECT_EQ(result.status().code(), absl::StatusCode::kResourceExhausted) << result.status();
    EXPECT_GT(RetryAfter(result.status()), absl::ZeroDuration());
  }
  EXPECT_FALSE(cache.AwaitNoWaiters(absl::Now()));
  gate.Open();
  for (const auto& result : results.Await()) EXPECT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(cache.AwaitNoWaiters(absl::Now() + kLong));
  EXPECT_TRUE(Get(cache, Rules("root ::= \"z\"")).ok()) << "there is room again";
}

TEST(GrammarCache, NothingIsCompiledForCallersThatAreGone) {
  Gate gate;
  GrammarCache cache(gate.MakeTrie(), {.threads = 1});
  Results first;
  Results gone;
  cache.Get(Rules("root ::= \"x\""), absl::InfiniteFuture(), first.Add());
  gate.AwaitEntered();
  const auto yes = [] { return true; };
  const auto no = [] { return false; };
  cache.Get(Rules("root ::= \"y\""), absl::InfiniteFuture(), gone.Add(), yes);
  // One of two that wait for the same.
  cache.Get(Rules("root ::= \"z\""), absl::InfiniteFuture(), gone.Add(), yes);
  cache.Get(Rules("root ::= \"z\""), absl::InfiniteFuture(), first.Add(), no);
  gate.Open();
  for (const auto& result : gone.Await()) {
    EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled) << result.status();
  }
  for (const auto& result : first.Await()) EXPECT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(cache.AwaitNoWaiters(absl::Now() + kLong));
  EXPECT_EQ(cache.stats().compiled, 2u) << "nobody waited for y";
}

TEST(GrammarCache, DeadlinesAreSeenBeforeTheTurn) {
  Gate gate;
  GrammarCache cache(gate.MakeTrie(), {.threads = 1});
  Results first;
  Results late;
  cache.Get(Rules("root ::= \"x\""), absl::InfiniteFuture(), first.Add());
  gate.AwaitEntered();
  cache.Get(Rules("root ::= \"y\""), absl::InfinitePast(), late.Add());
  cache.Get(Rules("root ::= \"z\""), absl::InfiniteFuture(), first.Add());
  // One of two that wait for the same.
  cache.Get(Rules("root ::= \"z\""), absl::InfinitePast(), late.Add());
  gate.Open();
  for (const auto& result : late.Await()) {
    EXPECT_EQ(result.status().code(), absl::StatusCode::kDeadlineExceeded) << result.status();
  }
  for (const auto& result : first.Await()) EXPECT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(cache.stats().compiled, 2u) << "nobody waited for y";
}

TEST(GrammarCache, IdleGrammarsGoWhereThereIsNoRoom) {
  GrammarCache cache(Letters, {.max_entries = 3});
  const Compiled used = *Get(cache, Rules("root ::= \"used\""));
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(Get(cache, Rules(absl::StrCat("root ::= \"", i, "\""))).ok());
    // Room is made behind the answer.
    const absl::Time give_up = absl::Now() + kLong;
    while (cache.stats().entries > 4) {
      ASSERT_LT(absl::Now(), give_up);
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
  const uint64_t compiled = cache.stats().compiled;
  EXPECT_EQ(*Get(cache, Rules("root ::= \"used\"")), used) << "what is in use is always found";
  EXPECT_EQ(cache.stats().compiled, compiled);
  ASSERT_TRUE(Get(cache, Rules("root ::= \"0\"")).ok());
  EXPECT_EQ(cache.stats().compiled, compiled + 1) << "the oldest had gone";
}

TEST(GrammarCache, RoomIsMadeWhenGrammarsAreNoLongerUsed) {
  GrammarCache cache(Letters, {.max_entries = 2});
  std::vector<Compiled> used;
  for (int i = 0; i < 10; ++i) {
    const auto compiled = Get(cache, Rules(absl::StrCat("root ::= \"", i, "\"")));
    ASSERT_TRUE(compiled.ok()) << compiled.status();
    used.push_back(*compiled);
  }
  EXPECT_EQ(cache.stats().entries, 10u);
  used.clear();
  // Without another call of Get.
  const absl::Time give_up = absl::Now() + kLong;
  while (cache.stats().entries > 2) {
    ASSERT_LT(absl::Now(), give_up);
    absl::SleepFor(absl::Milliseconds(1));
  }
}

TEST(GrammarCache, GrammarsMayOutliveIt) {
  Compiled used;
  {
    GrammarCache cache(Letters);
    used = *Get(cache, Rules("root ::= \"a\""));
  }
  GrammarMatcher matcher(used);
  EXPECT_TRUE(matcher.AcceptByte('a').ok());
}

TEST(GrammarCache, GrammarsOfAllSequencesFit) {
  for (const int sequences : {1, 4, 16, 20, 32, 64, 84}) {
    const GrammarCacheOptions options = OptionsFor(sequences);
    const size_t bytes = options.compile.max_state_bytes + options.compile.max_mask_bytes;
    EXPECT_LE(bytes * (static_cast<size_t>(sequences) + 1), options.max_bytes) << sequences;
    EXPECT_LE(bytes, size_t{96} << 20) << sequences;
    EXPECT_GE(bytes, size_t{24} << 20) << sequences;
  }
  EXPECT_EQ(OptionsFor(1'000'000).compile.max_state_bytes, size_t{8} << 20);
}

TEST(GrammarCache, GrammarsInUseAreBounded) {
  GrammarCache cache(Letters, {.max_idle_bytes = 0, .max_bytes = 1});
  const auto used = Get(cache, Rules("root ::= \"a\""));
  ASSERT_TRUE(used.ok()) << used.status();
  const auto refused = Get(cache, Rules("root ::= \"b\""));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted) << refused.status();
  EXPECT_GT(RetryAfter(refused.status()), absl::ZeroDuration());
}

TEST(GrammarCache, EndsWhileGrammarsAreWaitedFor) {
  Results results;
  Gate gate;
  std::thread opener;
  {
    GrammarCache cache(gate.MakeTrie(), {.threads = 1});
    for (int i = 0; i < 5; ++i) {
      cache.Get(Rules(absl::StrCat("root ::= \"", i, "\"")), absl::InfiniteFuture(), results.Add());
    }
    gate.AwaitEntered();
    opener = std::thread([&] { gate.Open(); });
  }
  opener.join();
  for (const auto& result : results.Await()) {
    EXPECT_TRUE(result.ok() || result.status().code() == absl::StatusCode::kCancelled)
        << result.status();
  }
}

TEST(WorkerGrammar, TheFirstRuleIsTheWhole) {
  const auto first = ParseWorkerGrammar(Rules("answer ::= other \"b\"\nother ::= \"a\""));
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->rules[first->root].name, "answer");
  const auto either = ParseWorkerGrammar(Rules("other ::= \"a\"\nroot ::= other \"b\""));
  EXPECT_EQ(either.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(either.status().message()), HasSubstr("grammar:2:1:"));
}

TEST(WorkerGrammar, KeysDifferExactlyWhereGrammarsDo) {
  v1::WorkerGrammar sql;
  sql.mutable_sql()->add_tables("a");
  sql.mutable_sql()->add_tables("b");
  v1::WorkerGrammar turned;
  turned.mutable_sql()->add_tables("b");
  turned.mutable_sql()->add_tables("a");
  turned.mutable_sql()->set_dialect(v1::SQL_DIALECT_SQLITE);
  EXPECT_EQ(WorkerGrammarKey(sql), WorkerGrammarKey(turned));
  std::vector<v1::WorkerGrammar> others(6);
  others[0].mutable_json();
  others[1].set_ebnf("a");
  others[2].set_json_schema("a");
  others[3].mutable_sql()->add_tables("a;1:b");
  others[4].mutable_sql()->add_tables("a");
  others[4].mutable_sql()->add_columns("b");
  others[5] = sql;
  others[5].mutable_sql()->set_dialect(v1::SQL_DIALECT_POSTGRESQL);
  others.push_back(sql);
  for (size_t i = 0; i < others.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      EXPECT_NE(WorkerGrammarKey(others[i]), WorkerGrammarKey(others[j])) << i << " " << j;
    }
  }
}

}  // namespace
}  // namespace octogate::workers
