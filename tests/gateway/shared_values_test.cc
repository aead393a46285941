#include "gateway/shared_values.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/redis/redis_slots.h"
#include "common/redis/redis_value_cache.h"
#include "tests/common/redis/redis_cluster.h"
#include "tests/common/wall_clock.h"
#include "tests/gateway/watched_values.h"

namespace octogate::gateway {
namespace {

SharedValues::Values Read(SharedValues& shared, std::vector<std::string> keys) {
  SharedValues::Values values;
  absl::Notification done;
  shared.Get(std::move(keys), [&](SharedValues::Values read) {
    values = std::move(read);
    done.Notify();
  });
  done.WaitForNotification();
  return values;
}

// Keys of a cluster's masters with values; the cluster takes half a minute to replace a master.
class SharedValuesClusterTest : public testing::Test {
 protected:
  void SetUp() override {
    for (int master = 0; master < RedisCluster::kMasters; ++master) {
      std::string key;
      for (int i = 0; key.empty(); ++i) {
        const std::string tried = absl::StrCat("key", i);
        if (RedisCluster::MasterOf(RedisSlot("octogate:value:" + tried)) == master) key = tried;
      }
      ASSERT_TRUE(
          shared_.PutNow(key, "value of " + key, absl::Hours(1), RedisCluster::Soon()).ok());
      EXPECT_EQ(Read(shared_, {key})[0].value_or(""), "value of " + key);
      keys_.push_back(key);
    }
  }

  // Only what the first master had is not read.
  void ExpectTheOthers() {
    EXPECT_FALSE(Read(shared_, {keys_[0]})[0].ok());
    EXPECT_EQ(Read(shared_, {keys_[1]})[0].value_or(""), "value of " + keys_[1]);
    const SharedValues::Values all = Read(shared_, keys_);
    EXPECT_FALSE(all[0].ok());
    EXPECT_EQ(all[1].value_or(""), "value of " + keys_[1]);
    EXPECT_EQ(all[2].value_or(""), "value of " + keys_[2]);
  }

  RedisCluster cluster_{/*node_timeout_ms=*/30'000};
  const std::unique_ptr<RedisClient> client_ = RedisClient::Create(cluster_.options());
  const std::unique_ptr<ValueCache> cache_ = MakeRedisValueCache(client_.get());
  SharedValues shared_{cache_.get(), /*max_wait=*/absl::Seconds(1)};
  std::vector<std::string> keys_;
};

TEST_F(SharedValuesClusterTest, AServerThatIsGoneTakesNoOthersAway) {
  cluster_.node(0).server->Kill();
  for (int i = 0; i < 10; ++i) ExpectTheOthers();
}

TEST_F(SharedValuesClusterTest, AFrozenServerTakesNoOthersAway) {
  cluster_.node(0).server->Freeze();
  for (int i = 0; i < 5; ++i) {
    ExpectTheOthers();
    absl::SleepFor(SharedValues::kPause / 2);
  }
  cluster_.node(0).server->Thaw();
  RedisCluster::AwaitTrue([&] { return Read(shared_, {keys_[0]})[0].ok(); });
}

// A cache that takes nothing until it is told to.
class SlowCache final : public ValueCache {
 public:
  std::vector<absl::StatusOr<std::string>> GetMany(std::span<const std::string> keys,
                                                   absl::Time) override {
    return std::vector<absl::StatusOr<std::string>>(keys.size(), absl::NotFoundError("nothing"));
  }
  std::vector<absl::Status> PutMany(std::span<const Entry> entries, absl::Time) override {
    if (!asked.HasBeenNotified()) asked.Notify();
    go_on.WaitForNotification();
    absl::MutexLock lock(&mutex);
    for (const Entry& entry : entries) taken.push_back(entry);
    return std::vector<absl::Status>(entries.size());
  }

  absl::Notification asked;
  absl::Notification go_on;
  absl::Mutex mutex;
  std::vector<Entry> taken ABSL_GUARDED_BY(mutex);
};

TEST(SharedValuesTest, WhatWaitsIsBoundedHoweverItCame) {
  constexpr int kKeys = 16;
  constexpr size_t kLarge = size_t{4} << 20;
  static_assert(kKeys * kLarge > SharedValues::kMaxQueuedBytes);
  SlowCache cache;
  SharedValues shared(&cache);
  shared.Put("first", "x", absl::Hours(1));
  cache.asked.WaitForNotification();  // what comes now waits
  for (int i = 0; i < kKeys; ++i) shared.Put(absl::StrCat("key", i), "small", absl::Hours(1));
  for (int i = 0; i < kKeys; ++i) {
    shared.Put(absl::StrCat("key", i), std::string(kLarge, 'x'), absl::Hours(1));
  }
  shared.Put("last", "x", absl::Hours(1));
  cache.go_on.Notify();
  const absl::Time give_up = absl::Now() + absl::Seconds(60);
  // Each write counts once, and the ones that were replaced do not.
  for (;;) {
    const SharedValues::Stats stats = shared.stats();
    if (stats.written == 2 + SharedValues::kMaxQueuedBytes / kLarge - 1) break;
    ASSERT_LT(absl::Now(), give_up) << stats.written << " written, " << stats.dropped << " dropped";
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_GT(shared.stats().dropped, 0U);
  absl::MutexLock lock(&cache.mutex);
  size_t bytes = 0;
  for (const ValueCache::Entry& entry : cache.taken) {
    bytes += entry.value.size();
    EXPECT_NE(entry.value, "small") << entry.key << " was to be replaced";
  }
  EXPECT_LE(bytes, SharedValues::kMaxQueuedBytes);
}

// A cache whose reads wait until they are told to go on.
class HeldCache final : public ValueCache {
 public:
  std::vector<absl::StatusOr<std::string>> GetMany(std::span<const std::string> keys,
                                                   absl::Time deadline) override {
    {
      absl::MutexLock lock(&mutex);
      left.push_back(deadline - absl::Now());
    }
    go_on.WaitForNotification();
    return std::vector<absl::StatusOr<std::string>>(keys.size(), absl::NotFoundError("nothing"));
  }
  std::vector<absl::Status> PutMany(std::span<const Entry> entries, absl::Time) override {
    return std::vector<absl::Status>(entries.size());
  }
  size_t reads() {
    absl::MutexLock lock(&mutex);
    return left.size();
  }

  absl::Notification go_on;
  absl::Mutex mutex;
  std::vector<absl::Duration> left ABSL_GUARDED_BY(mutex);  // by read
};

TEST(SharedValuesTest, AReadThatWaitsOutlivesAClockThatIsSetForward) {
  constexpr absl::Duration kWait = absl::Minutes(10);
  HeldCache cache;
  SharedValues shared(&cache, kWait);
  constexpr size_t kReads = 8;  // more than there are readers
  std::atomic<size_t> answered = 0;
  for (size_t i = 0; i < kReads; ++i) {
    shared.Get({"key"}, [&](const SharedValues::Values& values) {
      EXPECT_TRUE(absl::IsNotFound(values[0].status())) << values[0].status();
      ++answered;
    });
    RedisCluster::AwaitTrue([&] { return cache.reads() > 0; });
  }
  SetWallClockAhead(absl::Hours(24));
  cache.go_on.Notify();
  RedisCluster::AwaitTrue([&] { return answered == kReads; });
  SetWallClockAhead(absl::ZeroDuration());
  absl::MutexLock lock(&cache.mutex);
  EXPECT_GT(cache.left.size(), 1U);
  for (const absl::Duration left : cache.left) {
    EXPECT_GT(left, absl::ZeroDuration());
    EXPECT_LE(left, kWait);
  }
}

// A cache that answers nothing in time.
class FrozenCache final : public ValueCache {
 public:
  std::vector<absl::StatusOr<std::string>> GetMany(std::span<const std::string> keys,
                                                   absl::Time deadline) override {
    absl::SleepFor(deadline - absl::Now());
    return std::vector<absl::StatusOr<std::string>>(keys.size(),
                                                    absl::DeadlineExceededError("nothing"));
  }
  std::vector<absl::Status> PutMany(std::span<const Entry> entries, absl::Time) override {
    return std::vector<absl::Status>(entries.size());
  }
};

TEST(SharedValuesTest, OneReadAPauseWaitsForWhatIsFrozen) {
  WatchedValues values(std::make_unique<FrozenCache>());
  SharedValues shared(&values);
  uint64_t reads = 0;
  const absl::Time give_up = SteadyNow() + absl::Minutes(1);
  while (values.unanswered().size() < 4) {
    ASSERT_LT(SteadyNow(), give_up);
    EXPECT_FALSE(Read(shared, {absl::StrCat("key", reads++)})[0].ok());
  }
  ExpectOneWaitAPause(values);
  EXPECT_EQ(shared.stats().failed, reads);
}

}  // namespace
}  // namespace octogate::gateway
