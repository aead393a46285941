// Replicas that tell each other through a real Redis what their drafters learn, and what a Redis
// that dies, freezes, forgets or lies does to them: nothing but that they learn less.
#include "workers/cache/shared_drafts.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/redis/redis_client.h"
#include "common/redis/redis_store.h"
#include "tests/common/redis/redis_cluster.h"
#include "tests/common/redis/redis_server.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/speculation/drafter_streams.h"
#include "workers/speculation/kept_drafter.h"
#include "workers/speculation/recycling.h"
#include "workers/speculation/recycling_state.h"
#include "workers/speculation/suffix.h"

namespace octogate::workers {
namespace {

constexpr int kVocabulary = 100;

absl::Time Soon() { return absl::Now() + absl::Minutes(1); }

bool Eventually(const std::function<bool()>& condition) {
  const absl::Time give_up = absl::Now() + absl::Minutes(2);
  while (!condition()) {
    if (absl::Now() > give_up) return false;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return true;
}

struct ReplicaOptions {
  RedisOptions redis;
  std::string model = "model";
  std::string secret;
  Clock clock = SystemClock();  // of the machine that it runs on
};

// A process with drafters of a model.
class Replica {
 public:
  explicit Replica(const RedisServer& redis) : Replica(ReplicaOptions{.redis = redis.options()}) {}
  explicit Replica(ReplicaOptions options)
      : client_(RedisClient::Create(std::move(options.redis))),
        store_(MakeRedisStore(client_.get(), {.clock = std::move(options.clock)})),
        place_(ShareDrafts(store_.get(), {.secret = std::move(options.secret),
                                          .max_pause = absl::Milliseconds(100)})),
        keeper_(std::make_shared<DraftKeeper>(DraftKeeperOptions{.model = std::move(options.model),
                                                                 .interval = absl::Milliseconds(20),
                                                                 .places = {place_}})),
        recycling_(KeepDrafter(std::make_unique<RecyclingDrafter>(
                                   RecyclingOptions{.table = {.vocab_size = kVocabulary}}),
                               keeper_)),
        suffix_(KeepDrafter(
            std::make_unique<SuffixDrafter>(SuffixOptions{.vocab_size = kVocabulary}), keeper_)) {}

  // That `next` comes after `token`.
  void Learn(int32_t token, int32_t next, std::string_view scope = "tenant") {
    for (Drafter* drafter : {recycling_.get(), suffix_.get()}) {
      const auto sequence = drafter->Begin(scope);
      sequence->Append(Tokens{1, 2});
      sequence->Append(Tokens{3, token, next, 4});
    }
  }
  static bool Knows(Drafter& drafter, int32_t token, int32_t next, std::string_view scope) {
    const auto sequence = drafter.Begin(scope);
    sequence->Append(Tokens{token});
    return Proposal(*sequence).Child(-1, next) >= 0;
  }
  bool Knows(int32_t token, int32_t next, std::string_view scope = "tenant") {
    return Knows(*recycling_, token, next, scope) && Knows(*suffix_, token, next, scope);
  }
  bool Ignores(int32_t token, int32_t next, std::string_view scope = "tenant") {
    return !Knows(*recycling_, token, next, scope) && !Knows(*suffix_, token, next, scope);
  }

  // Whether all that it drafts after any token is of the vocabulary.
  bool IsSane(std::string_view scope = "tenant") {
    for (Drafter* drafter : {recycling_.get(), suffix_.get()}) {
      for (int32_t token = 0; token < kVocabulary; ++token) {
        const auto sequence = drafter->Begin(scope);
        sequence->Append(Tokens{token});
        if (!CheckDraftTree(Proposal(*sequence), kVocabulary).ok()) return false;
      }
    }
    return true;
  }

  RedisClient& client() { return *client_; }
  Store& store() { return *store_; }
  SharedDrafts::Stats shared() const { return place_->stats(); }
  DraftKeeper::Stats kept() const { return keeper_->stats(); }
  // Until the store was asked so often, from now on.
  bool WaitForTurns(uint64_t more) const {
    const uint64_t turns = kept().turns + more;
    return Eventually([&] { return kept().turns >= turns; });
  }

 private:
  const std::unique_ptr<RedisClient> client_;
  const std::unique_ptr<Store> store_;
  const std::shared_ptr<SharedDrafts> place_;
  const std::shared_ptr<DraftKeeper> keeper_;
  const std::unique_ptr<Drafter> recycling_;
  const std::unique_ptr<Drafter> suffix_;
};

DraftOwner Owner(std::string drafter, std::string scope = "tenant") {
  return {.model = "model", .drafter = std::move(drafter), .scope = std::move(scope)};
}

std::vector<std::string> Names(Store& store, const std::string& prefix) {
  return store.List(prefix, "", 10000, Soon()).value();
}

// Whatever is under these names becomes what `change` makes of it.
void ChangeAll(Store& store, const std::string& prefix,
               const std::function<std::string(std::string)>& change) {
  for (const std::string& name : Names(store, prefix)) {
    const absl::StatusOr<std::string> value = store.Get(name, Soon());
    if (!value.ok()) continue;
    ASSERT_TRUE(store.Put(name, change(*value), absl::Now() + absl::Hours(1), Soon()).ok());
  }
}

TEST(SharedDraftsTest, WhatOneReplicaLearnsAnotherKnows) {
  RedisServer redis;
  Replica first(redis);
  Replica second(redis);
  first.Learn(20, 21);
  EXPECT_TRUE(Eventually([&] { return second.Knows(20, 21); }));
  second.Learn(30, 31);
  EXPECT_TRUE(Eventually([&] { return first.Knows(30, 31); }));
  for (const Replica* replica : {&first, &second}) {
    const SharedDrafts::Stats stats = replica->shared();
    EXPECT_GT(stats.publications, 0U);
    EXPECT_GT(stats.merged, 0U);
    EXPECT_EQ(stats.refused, 0U);
  }
}

TEST(SharedDraftsTest, ANewReplicaStartsWarmThoughTheOthersAreGone) {
  RedisServer redis;
  {
    Replica first(redis);
    first.Learn(20, 21);
  }
  Replica second(redis);
  EXPECT_TRUE(Eventually([&] { return second.Knows(20, 21); }));
}

// What it publishes then has numbers that others have read already of its first life.
TEST(SharedDraftsTest, AReplicaThatOpensAScopeAgainIsHeard) {
  RedisServer redis;
  const auto client = RedisClient::Create(redis.options());
  const auto store = MakeRedisStore(client.get());
  const SharedDraftsOptions options = {.max_pause = absl::Milliseconds(1),
                                       .call_timeout = absl::Seconds(10)};
  const auto one = ShareDrafts(store.get(), options);
  const auto other = ShareDrafts(store.get(), options);
  const DraftOwner owner = Owner("recycling");
  const auto learn = [](LearnedState& state, int32_t token) {
    RecyclingDrafter drafter({.table = {.vocab_size = kVocabulary}});
    drafter.Begin("tenant")->Append(Tokens{token, token + 1, token, token + 1});
    ASSERT_TRUE(state.Learned(drafter.TakeLearned("tenant", 1 << 16)).ok());
  };
  const RecyclingTableOptions table = {.vocab_size = kVocabulary};
  RecyclingState hears(table);
  const auto hears_more = [&] {
    const uint64_t before = hears.changes();
    return Eventually([&] {
      EXPECT_TRUE(other->Sync(owner, /*last=*/false, hears).ok());
      return hears.changes() > before;
    });
  };
  RecyclingState first(table);
  learn(first, 20);
  ASSERT_TRUE(one->Sync(owner, /*last=*/false, first).ok());
  ASSERT_TRUE(hears_more());
  ASSERT_TRUE(one->Sync(owner, /*last=*/true, first).ok());
  RecyclingState again(table);
  learn(again, 40);
  ASSERT_TRUE(one->Sync(owner, /*last=*/false, again).ok());
  EXPECT_TRUE(hears_more());
}

TEST(SharedDraftsTest, ScopesAndModelsDoNotMix) {
  RedisServer redis;
  Replica first(redis);
  first.Learn(20, 21, "tenant");
  first.Learn(30, 31, "other");
  Replica second(redis);
  EXPECT_TRUE(
      Eventually([&] { return second.Knows(20, 21, "tenant") && second.Knows(30, 31, "other"); }));
  EXPECT_TRUE(second.Ignores(20, 21, "other"));
  EXPECT_TRUE(second.Ignores(30, 31, "tenant"));
  Replica third({.redis = redis.options(), .model = "another model"});
  EXPECT_TRUE(third.Ignores(20, 21));
  EXPECT_TRUE(third.WaitForTurns(20));
  EXPECT_TRUE(third.Ignores(20, 21));
  // Nor where what is of one scope is put under the names of the other.
  for (const char* drafter : {"recycling", "suffix"}) {
    const std::string from = SharedDraftsPrefix(Owner(drafter, "other"), "");
    const std::string to = SharedDraftsPrefix(Owner(drafter, "tenant"), "");
    for (const std::string& name : Names(first.store(), from)) {
      const absl::StatusOr<std::string> value = first.store().Get(name, Soon());
      if (!value.ok()) continue;
      ASSERT_TRUE(
          first.store()
              .Put(to + name.substr(from.size()), *value, absl::Now() + absl::Hours(1), Soon())
              .ok());
    }
  }
  Replica fourth(redis);
  EXPECT_TRUE(Eventually([&] {
    fourth.Ignores(30, 31);
    return fourth.shared().refused > 0;
  }));
  EXPECT_TRUE(fourth.WaitForTurns(20));
  EXPECT_TRUE(fourth.Ignores(30, 31));
}

TEST(SharedDraftsTest, NamesDoNotTellScopes) {
  RedisServer redis;
  Replica first(redis);
  first.Learn(20, 21, "acme");
  EXPECT_TRUE(Eventually([&] { return first.shared().snapshots > 1; }));
  const absl::StatusOr<RedisReply> keys = first.client().Call({"KEYS", "*"}, Soon());
  ASSERT_TRUE(keys.ok());
  EXPECT_FALSE(keys->elements.empty());
  for (const RedisReply& key : keys->elements) {
    EXPECT_EQ(key.text.find("acme"), std::string::npos) << key.text;
  }
}

TEST(SharedDraftsTest, WhoDoesNotKnowTheSecretIsNotHeard) {
  RedisServer redis;
  Replica first({.redis = redis.options(), .secret = "one secret of ours"});
  first.Learn(20, 21);
  Replica second({.redis = redis.options(), .secret = "another secret"});
  Replica third({.redis = redis.options(), .secret = "one secret of ours"});
  EXPECT_TRUE(Eventually([&] { return third.Knows(20, 21); }));
  EXPECT_TRUE(second.Ignores(20, 21));
  EXPECT_TRUE(second.WaitForTurns(20));
  EXPECT_TRUE(second.Ignores(20, 21));
  const DraftOwner owner = Owner("recycling");
  EXPECT_TRUE(OpenDrafts(owner, "a", SealDrafts(owner, "a", "bytes")).ok());
  EXPECT_FALSE(OpenDrafts(owner, "b", SealDrafts(owner, "a", "bytes")).ok());
}

TEST(SharedDraftsTest, WhatIsStoredIsBoundedAndExpires) {
  RedisServer redis;
  Replica first(redis);
  for (int i = 0; i < 60; ++i) {
    first.Learn(20 + i, 21 + i);
    ASSERT_TRUE(first.WaitForTurns(4));
  }
  EXPECT_TRUE(Eventually([&] { return first.shared().publications > 60; }));
  for (const char* drafter : {"recycling", "suffix"}) {
    const std::string prefix = SharedDraftsPrefix(Owner(drafter), "");
    const size_t publications = Names(first.store(), prefix + "p/").size();
    EXPECT_GT(publications, 8U);
    EXPECT_LE(publications, 17U);  // one more where the oldest is about to go
    EXPECT_LE(Names(first.store(), prefix + "s/").size(), 2U);
  }
  const absl::StatusOr<RedisReply> keys = first.client().Call({"KEYS", "*"}, Soon());
  ASSERT_TRUE(keys.ok());
  int values = 0;
  for (const RedisReply& key : keys->elements) {
    if (first.client().Call({"TYPE", key.text}, Soon())->text != "string") continue;
    ++values;
    EXPECT_GT(first.client().Call({"PTTL", key.text}, Soon())->integer, 0) << key.text;
  }
  EXPECT_GT(values, 16);
}

TEST(SharedDraftsTest, AServerThatIsKilledAndComesBackEmptyIsToldEverythingAgain) {
  RedisServer redis({"--save", ""});
  Replica first(redis);
  first.Learn(20, 21);
  EXPECT_TRUE(Eventually([&] { return first.shared().snapshots > 1; }));
  redis.Kill();
  first.Learn(30, 31);
  EXPECT_TRUE(first.Knows(30, 31));
  EXPECT_TRUE(Eventually([&] { return first.kept().failures > 2; }));
  first.Learn(40, 41);
  redis.Start();
  Replica second(redis);
  EXPECT_TRUE(Eventually(
      [&] { return second.Knows(20, 21) && second.Knows(30, 31) && second.Knows(40, 41); }));
}

TEST(SharedDraftsTest, AMasterOfAClusterDies) {
  RedisCluster cluster(/*node_timeout_ms=*/2000);
  const ReplicaOptions options{.redis = cluster.options()};
  Replica first(options);
  Replica second(options);
  // Of many tenants, whose values are spread over the masters.
  const auto scope = [](int i) { return absl::StrCat("tenant ", i); };
  constexpr int kScopes = 6;
  const auto all_know = [&](Replica& replica, int32_t token) {
    for (int i = 0; i < kScopes; ++i) {
      if (!replica.Knows(token, token + 1, scope(i))) return false;
    }
    return true;
  };
  for (int i = 0; i < kScopes; ++i) first.Learn(20, 21, scope(i));
  EXPECT_TRUE(Eventually([&] { return all_know(second, 20); }));
  cluster.AwaitReplicas();
  cluster.node(1).server->Kill();
  for (int i = 0; i < kScopes; ++i) first.Learn(30, 31, scope(i));
  EXPECT_TRUE(all_know(first, 30));
  EXPECT_TRUE(Eventually([&] { return all_know(second, 30); }));
  Replica third(options);
  EXPECT_TRUE(Eventually([&] { return all_know(third, 20) && all_know(third, 30); }));
}

TEST(SharedDraftsTest, AFrozenServerHoldsNobodyUp) {
  RedisServer redis;
  RedisOptions options = redis.options();
  options.timeouts = Patient(absl::Milliseconds(500));
  Replica first({.redis = options});
  first.Learn(20, 21);
  EXPECT_TRUE(Eventually([&] { return first.shared().snapshots > 1; }));
  redis.Freeze();
  // The drafters' thread never waits for the keeper's, which waits for the server now.
  for (int i = 0; i < 50; ++i) first.Learn(20 + i, 21 + i);
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(first.Knows(20 + i, 21 + i));
  EXPECT_TRUE(Eventually([&] { return first.kept().failures > 2; }));
  redis.Thaw();
  Replica second(redis);
  EXPECT_TRUE(Eventually([&] { return second.Knows(20, 21) && second.Knows(69, 70); }));
}

TEST(SharedDraftsTest, AFullServerIsToldWhenThereIsRoom) {
  RedisServer redis;
  Replica first(redis);
  ASSERT_TRUE(first.client().Call({"CONFIG", "SET", "maxmemory", "1"}, Soon()).ok());
  first.Learn(20, 21);
  EXPECT_TRUE(Eventually([&] { return first.kept().failures > 4; }));
  EXPECT_TRUE(first.Knows(20, 21));
  EXPECT_EQ(first.shared().published_bytes, 0U);
  ASSERT_TRUE(first.client().Call({"CONFIG", "SET", "maxmemory", "0"}, Soon()).ok());
  Replica second(redis);
  EXPECT_TRUE(Eventually([&] { return second.Knows(20, 21); }));
}

// A wall clock that is wrong makes values expire early or calls late; what is known, and which of
// two rows is later, does not depend on it.
TEST(SharedDraftsTest, ClocksMayJump) {
  RedisServer redis;
  std::atomic<int64_t> hours = 0;
  Replica first(
      {.redis = redis.options(), .clock = [&] { return absl::Now() + absl::Hours(hours.load()); }});
  Replica second(redis);
  first.Learn(20, 21);
  EXPECT_TRUE(Eventually([&] { return second.Knows(20, 21); }));
  hours = 30;  // every deadline seems to have passed
  first.Learn(30, 31);
  EXPECT_TRUE(Eventually([&] { return first.kept().failures > 2; }));
  EXPECT_TRUE(first.Knows(30, 31));
  hours = -30;
  first.Learn(40, 41);
  EXPECT_TRUE(Eventually([&] { return second.Knows(30, 31) && second.Knows(40, 41); }));
  second.Learn(50, 51);
  EXPECT_TRUE(Eventually([&] { return first.Knows(50, 51); }));
}

TEST(SharedDraftsTest, DamagedValuesAreRefusedAndWrittenAnew) {
  RedisServer redis;
  Replica first(redis);
  first.Learn(20, 21);
  EXPECT_TRUE(Eventually([&] { return first.shared().snapshots > 1; }));
  const auto damage = [](std::string value) {
    value.back() = static_cast<char>(value.back() ^ 1);
    return value;
  };
  const auto cut = [](const std::string& value) { return value.substr(0, value.size() / 2); };
  const auto date = [](std::string value) {
    value[value.find('1')] = '2';  // of the mark: another format
    return value;
  };
  for (const std::function<std::string(std::string)>& change :
       {std::function<std::string(std::string)>(damage),
        std::function<std::string(std::string)>(cut),
        std::function<std::string(std::string)>(date)}) {
    ChangeAll(first.store(), "drafts-", change);
    Replica second(redis);
    EXPECT_TRUE(second.Ignores(20, 21));
    EXPECT_TRUE(Eventually([&] { return second.shared().refused > 0; }));
    // Good ones come in place of the bad ones when there is anything new.
    first.Learn(30, 31);
    EXPECT_TRUE(Eventually([&] { return second.Knows(20, 21); }));
  }
  // Under the store's own format, too.
  const absl::StatusOr<RedisReply> keys = first.client().Call({"KEYS", "*:/*"}, Soon());
  ASSERT_TRUE(keys.ok());
  for (const RedisReply& key : keys->elements) {
    ASSERT_TRUE(first.client().Call({"APPEND", key.text, "x"}, Soon()).ok());
  }
  Replica third(redis);
  EXPECT_TRUE(third.Ignores(20, 21));
  EXPECT_TRUE(Eventually([&] { return third.shared().refused > 0; }));
}

// Whoever can write to the store can seal what they like where there is no secret.
TEST(SharedDraftsTest, HostileValuesWithTheRightSealDoNoHarm) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  RedisServer redis;
  Replica first(redis);
  for (int i = 0; i < 40; ++i) first.Learn(20 + i, 21 + i);
  EXPECT_TRUE(Eventually([&] { return first.shared().snapshots > 1; }));
  int written = 0;
  for (const char* drafter : {"recycling", "suffix"}) {
    const DraftOwner owner = Owner(drafter);
    const std::string prefix = SharedDraftsPrefix(owner, "");
    const std::string snapshot = Names(first.store(), prefix + "s/").at(0);
    const std::string good =
        OpenDrafts(owner, "", first.store().Get(snapshot, Soon()).value()).value();
    for (int i = 0; i < 60; ++i) {
      std::string bad = good;
      for (uint64_t change = 0; change < 1 + random() % 8; ++change) {
        const size_t place = random() % bad.size();
        // Of the same length, cut off, or with numbers that are as large as they can be.
        if (random() % 8 == 0) bad.resize(place + 1);
        if (random() % 2 == 0) {
          bad[random() % bad.size()] = static_cast<char>(random());
        } else {
          for (size_t b = place; b < std::min(place + 4, bad.size()); ++b) bad[b] = '\xff';
        }
      }
      const std::string name =
          i % 8 == 0 ? absl::StrCat(prefix, "s/hostile-", i)
                     : absl::StrCat(prefix, "p/hostile", i, "/00000000000", 1 + i % 3);
      ASSERT_TRUE(first.store()
                      .Put(name, SealDrafts(owner, "", bad), absl::Now() + absl::Hours(1), Soon())
                      .ok());
      ++written;
    }
    for (const char* name :
         {"p/", "p/x", "p/x/y", "p//000000000001", "s/", "s/x-1-99999999999999999999",
          "p/x/-00000000001", "p/x/999999999999", "q/x"}) {
      ASSERT_TRUE(first.store().Put(prefix + name, "x", absl::Now() + absl::Hours(1), Soon()).ok());
    }
  }
  Replica second(redis);
  EXPECT_TRUE(Eventually([&] {
    second.Knows(1, 2);
    return second.shared().refused > static_cast<uint64_t>(written / 4);
  }));
  EXPECT_TRUE(second.WaitForTurns(40));
  EXPECT_TRUE(second.IsSane());
  EXPECT_TRUE(first.IsSane());
  // And they go on telling each other.
  first.Learn(80, 81);
  EXPECT_TRUE(Eventually([&] { return second.Knows(80, 81); }));
  second.Learn(90, 91);
  EXPECT_TRUE(Eventually([&] { return first.Knows(90, 91); }));
}

}  // namespace
}  // namespace octogate::workers
