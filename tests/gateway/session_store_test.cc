// Sessions are remembered apart from each other, for a time, and in a bounded number.
#include "gateway/session_store.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"

namespace octogate::gateway {
namespace {

TEST(SessionStoreTest, NamesAreKeptApartWhateverTheyAre) {
  SessionStore store({});
  store.Set("a", "s", "main", "one");
  store.Set("b", "s", "main", "two");
  store.Set("a", "s", "inner", "three");
  store.Set("a", "t", "main", "four");
  EXPECT_EQ(store.Find("a", "s", "main"), "one") << "two tenants with one session's name";
  EXPECT_EQ(store.Find("b", "s", "main"), "two");
  EXPECT_EQ(store.Find("a", "s", "inner"), "three");
  EXPECT_EQ(store.Find("a", "t", "main"), "four");
  EXPECT_EQ(store.Find("c", "s", "main"), "");
  // What is put together the same way is not the same.
  store.Set("x1:y", "z", "r", "five");
  EXPECT_EQ(store.Find("x", "1:yz", "r"), "");
  EXPECT_EQ(store.Find("x1:", "yz", "r"), "");
  store.Set("p", "q1", "r", "six");
  EXPECT_EQ(store.Find("p", "q", "1r"), "");
}

// Against a list of what was set, in order.
TEST(SessionStoreTest, KeepsWhatWasUsedLastForItsTime) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  absl::Time now = absl::FromUnixSeconds(1'000'000);
  constexpr size_t kMax = 5;
  const absl::Duration kept_for = absl::Seconds(20);
  SessionStore store({.max_entries = kMax, .kept_for = kept_for, .clock = [&now] { return now; }});
  struct Known {
    std::string session;
    std::string node;
    absl::Time used;
  };
  std::deque<Known> known;  // used last first
  for (int round = 0; round < 2000; ++round) {
    now += absl::Seconds(random() % 4);
    const std::string session = absl::StrCat(random() % 8);
    while (!known.empty() && now >= known.back().used + kept_for) known.pop_back();
    auto found = known.begin();
    while (found != known.end() && found->session != session) ++found;
    ASSERT_EQ(store.Find("t", session, "main"), found == known.end() ? "" : found->node);
    if (random() % 2 == 0) continue;
    if (found != known.end()) known.erase(found);
    const std::string node = absl::StrCat("node", random() % 100);
    known.push_front({session, node, now});
    if (known.size() > kMax) known.pop_back();
    store.Set("t", session, "main", node);
  }
}

// A cache in memory that can lose everything.
class MemoryCache final : public ValueCache {
 public:
  std::vector<absl::StatusOr<std::string>> GetMany(std::span<const std::string> keys,
                                                   absl::Time) override {
    absl::MutexLock lock(&mutex_);
    std::vector<absl::StatusOr<std::string>> values;
    for (const std::string& key : keys) {
      const auto found = values_.find(key);
      if (found != values_.end()) {
        values.emplace_back(found->second);
      } else {
        values.emplace_back(absl::NotFoundError(""));
      }
    }
    return values;
  }
  std::vector<absl::Status> PutMany(std::span<const Entry> entries, absl::Time) override {
    absl::MutexLock lock(&mutex_);
    for (const Entry& entry : entries) values_[entry.key] = entry.value;
    return std::vector<absl::Status>(entries.size(), absl::OkStatus());
  }
  void Lose() {
    absl::MutexLock lock(&mutex_);
    values_.clear();
  }

 private:
  absl::Mutex mutex_;
  std::map<std::string, std::string> values_ ABSL_GUARDED_BY(mutex_);
};

std::string Ask(SessionStore& store, const std::string& session) {
  absl::Notification found;
  std::string node;
  store.Find("t", session, "main", [&](std::string result) {
    node = std::move(result);
    found.Notify();
  });
  found.WaitForNotification();
  return node;
}

// Three gateways know what one would that all queries went to, as long as its time lasts.
TEST(SessionStoreTest, SeveralKnowWhatOneWould) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  absl::Mutex mutex;
  absl::Time now = absl::FromUnixSeconds(1'000'000);
  SessionStoreOptions options{.kept_for = absl::Seconds(20),
                              .believed_for = absl::ZeroDuration(),
                              .renewed_after = absl::ZeroDuration(),
                              .clock = [&] {
                                absl::MutexLock lock(&mutex);
                                return now;
                              }};
  MemoryCache cache;
  constexpr int kGateways = 3;
  std::vector<std::unique_ptr<SharedValues>> shared;
  std::vector<std::unique_ptr<SessionStore>> stores;
  for (int i = 0; i < kGateways; ++i) {
    shared.push_back(std::make_unique<SharedValues>(&cache));
    stores.push_back(std::make_unique<SessionStore>(options, shared.back().get()));
  }
  std::vector<uint64_t> written(kGateways);
  struct Known {
    std::string node;
    absl::Time used;
  };
  std::map<std::string, Known> known;
  for (int round = 0; round < 1000; ++round) {
    {
      absl::MutexLock lock(&mutex);
      now += absl::Seconds(1 + random() % 4);
    }
    const size_t gateway = random() % kGateways;
    const std::string session = absl::StrCat(random() % 8);
    const auto found = known.find(session);
    const bool is_known =
        found != known.end() && options.clock() < found->second.used + options.kept_for;
    // A read may be late on a busy machine; then the gateway knows what it knew.
    const uint64_t failed = shared[gateway]->stats().failed;
    const std::string node = Ask(*stores[gateway], session);
    if (shared[gateway]->stats().failed == failed) {
      ASSERT_EQ(node, is_known ? found->second.node : "");
    }
    if (random() % 2 == 0) continue;
    const std::string chosen = absl::StrCat("node", random() % 100);
    stores[gateway]->Set("t", session, "main", chosen);
    known[session] = {chosen, options.clock()};
    ++written[gateway];
    const absl::Time give_up = absl::Now() + absl::Seconds(60);
    while (shared[gateway]->stats().written < written[gateway] && absl::Now() < give_up) {
      absl::SleepFor(absl::Microseconds(50));
    }
  }
}

// What the server has lost is told again with the next query.
TEST(SessionStoreTest, WhatWasLostIsToldAgain) {
  MemoryCache cache;
  SharedValues shared(&cache);
  SessionStore store({.believed_for = absl::ZeroDuration()}, &shared);
  store.Set("t", "s", "main", "one");
  store.Set("t", "s", "main", "one");
  const auto written = [&](uint64_t count) {
    const absl::Time give_up = absl::Now() + absl::Seconds(60);
    while (shared.stats().written < count && absl::Now() < give_up) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    return shared.stats().written;
  };
  EXPECT_EQ(written(1), 1) << "once, as it is the same";
  cache.Lose();
  EXPECT_EQ(Ask(store, "s"), "one");
  store.Set("t", "s", "main", "one");
  EXPECT_EQ(written(2), 2);
}

// A cache that is late, and takes nothing once it is let.
class HeldCache final : public ValueCache {
 public:
  std::vector<absl::StatusOr<std::string>> GetMany(std::span<const std::string> keys,
                                                   absl::Time deadline) override {
    absl::SleepFor(deadline - absl::Now());
    return std::vector<absl::StatusOr<std::string>>(keys.size(),
                                                    absl::DeadlineExceededError("late"));
  }
  std::vector<absl::Status> PutMany(std::span<const Entry> entries, absl::Time) override {
    let_.WaitForNotification();
    return std::vector<absl::Status>(entries.size(), absl::UnavailableError("gone"));
  }
  void Let() { let_.Notify(); }

 private:
  absl::Notification let_;
};

TEST(SharedValuesTest, WhatWaitsIsBoundedAndCounted) {
  HeldCache cache;
  SharedValues shared(&cache);
  constexpr size_t kPuts = SharedValues::kMaxQueued + SharedValues::kMaxBatch + 1000;
  for (size_t i = 0; i < kPuts; ++i) shared.Put(absl::StrCat(i), "value", absl::Hours(1));
  EXPECT_GE(shared.stats().dropped, 1000);
  // One of the same key takes no place.
  const uint64_t dropped = shared.stats().dropped;
  shared.Put(absl::StrCat(kPuts), std::string(SharedValues::kMaxQueuedBytes, 'x'), absl::Hours(1));
  EXPECT_EQ(shared.stats().dropped, dropped + 1);
  cache.Let();
  const absl::Time give_up = absl::Now() + absl::Seconds(60);
  while (shared.stats().dropped < kPuts + 1 && absl::Now() < give_up) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(shared.stats().dropped, kPuts + 1);
  EXPECT_EQ(shared.stats().written, 0);
}

TEST(SharedValuesTest, EveryReadIsAnsweredOnce) {
  HeldCache cache;
  std::atomic<int> answered{0};
  constexpr int kReads = 5000;
  {
    SharedValues shared(&cache);
    for (int i = 0; i < kReads; ++i) {
      shared.Get({"a", "b"}, [&](const SharedValues::Values& values) {
        EXPECT_EQ(values.size(), 2);
        EXPECT_FALSE(values[0].ok());
        answered.fetch_add(1);
      });
    }
    shared.Stop();
    shared.Get({"a"}, [&](const SharedValues::Values&) { answered.fetch_add(1); });
    EXPECT_EQ(shared.stats().found, 0);
    cache.Let();
  }
  EXPECT_EQ(answered.load(), kReads + 1);
}

}  // namespace
}  // namespace octogate::gateway
