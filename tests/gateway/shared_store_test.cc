// Several gateways with one Redis: one graph, whichever of them applies it, and Redis may go.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/common/redis/slow_proxy.h"
#include "tests/gateway/redis_gateway.h"
#include "tests/gateway/session_graph.h"
#include "tests/gateway/stub_worker.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

std::string Graph(const std::string& name, const StubWorker& worker) {
  return absl::StrCat(
      "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: ", name,
      "}\nspec:\n  entry: only\n  models:\n    - {name: m, workers: [\"", worker.address(),
      "\"]}\n  nodes:\n    - name: only\n      description: answers\n      model: {model: m}\n");
}

// The applied graph; empty: none.
std::string NameOf(TestGateway& gateway) {
  grpc::ClientContext context;
  v1::GetGraphResponse response;
  if (!gateway.admin()->GetGraph(&context, {}, &response).ok()) return "";
  return response.graph().metadata().name();
}

bool Applies(TestGateway& gateway, const std::string& name) {
  return Eventually([&] {
    const auto state = gateway.server().graphs().state();
    return state != nullptr && state->graph().metadata().name() == name;
  });
}

TEST(SharedStoreTest, AGraphReachesEveryGateway) {
  RedisServer redis;
  StubWorker worker;
  RedisGateway first(redis.options());
  RedisGateway second(redis.options());
  ASSERT_TRUE(first.Apply(Graph("one", worker)).ok());
  EXPECT_TRUE(Applies(second, "one"));
  EXPECT_EQ(NameOf(second), "one");
  EXPECT_TRUE(Eventually([&] { return second.Generate(Ask("x")).status.ok(); }));
  ASSERT_TRUE(second.Apply(Graph("two", worker)).ok());
  EXPECT_TRUE(Applies(first, "two"));
  // One that starts later has it at once.
  RedisGateway third(redis.options());
  EXPECT_TRUE(Applies(third, "two"));
}

// Each version is written by one gateway, and none is lost.
TEST(SharedStoreTest, ApplicationsAtTheSameTimeAreOrdered) {
  RedisServer redis;
  StubWorker worker;
  RedisGateway first(redis.options());
  RedisGateway second(redis.options());
  std::vector<int64_t> versions[2];
  const auto apply = [&worker](TestGateway& gateway, char name, std::vector<int64_t>* applied) {
    for (int i = 0; i < 20; ++i) {
      v1::ApplyGraphResponse response;
      const grpc::Status status =
          gateway.Apply(Graph(absl::StrCat(std::string(1, name), i), worker), &response);
      if (status.ok()) {
        applied->push_back(response.version());
      } else {
        EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED) << status.error_message();
      }
    }
  };
  std::thread other([&] { apply(second, 'b', &versions[1]); });
  apply(first, 'a', &versions[0]);
  other.join();
  std::vector<int64_t> all = versions[0];
  all.insert(all.end(), versions[1].begin(), versions[1].end());
  std::sort(all.begin(), all.end());
  ASSERT_FALSE(all.empty());
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], static_cast<int64_t>(i + 1));
  EXPECT_TRUE(Eventually([&] { return NameOf(first) == NameOf(second); }));
}

TEST(SharedStoreTest, WithoutRedisWhatIsAppliedStaysInForce) {
  RedisServer redis({"--appendonly", "yes", "--appendfsync", "always"});
  StubWorker worker;
  RedisGateway first(redis.options());
  ASSERT_TRUE(first.Apply(Graph("one", worker)).ok());
  ASSERT_TRUE(first.Generate(Ask("x")).status.ok());
  redis.Kill();
  EXPECT_TRUE(first.Generate(Ask("x")).status.ok());
  EXPECT_EQ(first.Apply(Graph("two", worker)).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(first.Generate(Ask("x")).status.ok());
  redis.Start();
  EXPECT_TRUE(Eventually([&] { return first.Apply(Graph("two", worker)).ok(); }));
  RedisGateway second(redis.options());
  EXPECT_TRUE(Applies(second, "two"));
}

// Whoever waited for the server would wait longer than a query may last.
TEST(SharedStoreTest, AFrozenRedisHoldsUpNoQuery) {
  RedisServer redis;
  RedisOptions options = redis.options();
  options.timeouts = Patient(absl::Hours(1));
  StubWorker worker;
  RedisGateway gateway(options);
  ASSERT_TRUE(Eventually([&] { return gateway.Apply(Graph("one", worker)).ok(); }));
  redis.Freeze();
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(gateway.Generate(Ask("x")).status.ok());
  redis.Thaw();
  EXPECT_TRUE(Eventually([&] { return gateway.Apply(Graph("two", worker)).ok(); }));
}

// Connections over which nothing comes any more, no notification either.
TEST(SharedStoreTest, AHalfOpenConnectionHoldsUpNoQueryAndIsMadeAgain) {
  RedisServer redis;
  SlowProxy proxy(redis.Socket(), {});
  RedisOptions options = Through(proxy, redis.options());
  options.timeouts = Patient(absl::Milliseconds(500));
  options.timeouts.connect = absl::Milliseconds(500);
  options.timeouts.sign_of_life = absl::Milliseconds(100);
  StubWorker worker;
  RedisGateway first(redis.options());
  RedisGateway far(options);
  ASSERT_TRUE(first.Apply(Graph("one", worker)).ok());
  ASSERT_TRUE(Applies(far, "one"));
  proxy.LoseAll();
  ASSERT_TRUE(first.Apply(Graph("two", worker)).ok());
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(far.Generate(Ask("x")).status.ok());
  EXPECT_EQ(NameOf(far), "one");
  EXPECT_FALSE(far.Apply(Graph("three", worker)).ok());
  EXPECT_EQ(NameOf(far), "one");
  EXPECT_EQ(NameOf(first), "two");
  proxy.LoseNothing();
  EXPECT_TRUE(Applies(far, "two"));
  EXPECT_TRUE(Eventually([&] { return far.Apply(Graph("three", worker)).ok(); }));
  EXPECT_TRUE(Applies(first, "three"));
}

// A server that comes back with nothing, or with an older state.
TEST(SharedStoreTest, WhatRedisHasLostIsPutBack) {
  RedisServer redis({"--save", ""});
  StubWorker worker;
  RedisGateway gateway(redis.options());
  ASSERT_TRUE(gateway.Apply(Graph("one", worker)).ok());
  ASSERT_TRUE(gateway.Apply(Graph("two", worker)).ok());
  redis.Kill();
  redis.Start();
  RedisGateway later(redis.options());
  EXPECT_TRUE(Applies(later, "two"));
  EXPECT_EQ(later.server().graphs().state()->version(), 2);
  v1::ApplyGraphResponse response;
  EXPECT_TRUE(Eventually([&] { return gateway.Apply(Graph("three", worker), &response).ok(); }));
  EXPECT_EQ(response.version(), 3);
  EXPECT_TRUE(Applies(later, "three"));
}

bool Drain(TestGateway& gateway, bool undo = false) {
  grpc::ClientContext context;
  v1::DrainNodeRequest request;
  request.set_name("only");
  request.set_undo(undo);
  v1::DrainNodeResponse response;
  return gateway.admin()->DrainNode(&context, request, &response).ok();
}

bool IsDrained(TestGateway& gateway) {
  return gateway.Nodes().nodes(0).state() == v1::NODE_STATE_DRAINING;
}

TEST(SharedStoreTest, DrainsThatRedisHasLostArePutBack) {
  RedisServer redis({"--save", ""});
  StubWorker worker;
  RedisGateway first(redis.options());
  RedisGateway second(redis.options());
  ASSERT_TRUE(first.Apply(Graph("one", worker)).ok());
  ASSERT_TRUE(Applies(second, "one"));
  ASSERT_TRUE(Drain(first));
  EXPECT_TRUE(Eventually([&] { return IsDrained(second); }));
  redis.Kill();
  redis.Start();
  // A list of drained nodes is there again, and it is the one before.
  EXPECT_TRUE(Eventually(
      [&] { return first.store->Get("graph/drained", absl::Now() + absl::Seconds(60)).ok(); }));
  EXPECT_TRUE(IsDrained(first));
  EXPECT_TRUE(IsDrained(second));
  RedisGateway later(redis.options());
  ASSERT_TRUE(Applies(later, "one"));
  EXPECT_TRUE(IsDrained(later));
  // A damaged list is replaced, too.
  const std::string damaged(100, 'x');
  ASSERT_TRUE(
      first.store
          ->Put("graph/drained", damaged, absl::InfiniteFuture(), absl::Now() + absl::Seconds(60))
          .ok());
  EXPECT_TRUE(Eventually([&] {
    return first.store->Get("graph/drained", absl::Now() + absl::Seconds(60)).value_or("") !=
           damaged;
  }));
  EXPECT_TRUE(IsDrained(first));
  // What is taken back stays in service everywhere.
  ASSERT_TRUE(Eventually([&] { return Drain(later, /*undo=*/true); }));
  EXPECT_FALSE(IsDrained(later));
  EXPECT_TRUE(Eventually([&] { return !IsDrained(first) && !IsDrained(second); }));
  EXPECT_FALSE(IsDrained(later));
}

// Puts the graph "other" in the place of version 1.
absl::Status PutOtherFirstVersion(Store& store, const StubWorker& worker) {
  const auto other = MakeMemoryStore();
  TestGateway elsewhere(RedisGateway::Options(), other.get());
  EXPECT_TRUE(elsewhere.Apply(Graph("other", worker)).ok());
  const std::string key = "graph/version/0000000000000000001";
  const std::string record = other->Get(key, absl::InfiniteFuture()).value();
  return store.Put(key, record, absl::InfiniteFuture(), absl::Now() + absl::Seconds(60));
}

TEST(SharedStoreTest, TwoGraphsOfOneNumberBecomeOne) {
  RedisServer redis({"--save", ""});
  StubWorker worker;
  RedisGateway first(redis.options());
  ASSERT_TRUE(first.Apply(Graph("one", worker)).ok());
  // As if another gateway had written the version after the server had lost the first one's.
  ASSERT_TRUE(PutOtherFirstVersion(*first.store, worker).ok());
  EXPECT_TRUE(Applies(first, "other"));
}

// A store that loses what is notified, and counts.
class Deaf final : public Store {
 public:
  explicit Deaf(Store* store) : store_(*store) {}
  absl::StatusOr<std::string> Get(std::string_view key, absl::Time deadline) override {
    if (key.starts_with(kVersions)) ++read;
    return store_.Get(key, deadline);
  }
  absl::Status Put(std::string_view key, std::string_view value, absl::Time expires_at,
                   absl::Time deadline) override {
    return store_.Put(key, value, expires_at, deadline);
  }
  absl::Status CompareAndSet(std::string_view key, std::optional<std::string_view> expected,
                             std::string_view value, absl::Time expires_at,
                             absl::Time deadline) override {
    if (overtaken.exchange(false)) {
      EXPECT_TRUE(store_.CompareAndSet(key, expected, value, expires_at, deadline).ok());
    }
    return store_.CompareAndSet(key, expected, value, expires_at, deadline);
  }
  absl::StatusOr<std::vector<std::string>> List(std::string_view prefix, std::string_view after,
                                                size_t limit, absl::Time deadline) override {
    if (prefix.starts_with(kVersions)) ++listed;
    return store_.List(prefix, after, limit, deadline);
  }
  absl::Status Delete(std::string_view key, absl::Time deadline) override {
    return store_.Delete(key, deadline);
  }

  std::atomic<int> read = 0;  // versions of the graph
  std::atomic<int> listed = 0;
  std::atomic<bool> overtaken = false;  // somebody does the next compare-and-set just before it

 private:
  static constexpr std::string_view kVersions = "graph/version/";
  Store& store_;
};

TEST(SharedStoreTest, WhoIsOvertakenByTheSameDrainHasDrained) {
  const auto memory = MakeMemoryStore();
  StubWorker worker;
  Deaf store(memory.get());
  TestGateway gateway(RedisGateway::Options(), &store);
  ASSERT_TRUE(gateway.Apply(Graph("one", worker)).ok());
  for (const bool undo : {false, true}) {
    store.overtaken = true;
    EXPECT_TRUE(Drain(gateway, undo));
    EXPECT_FALSE(store.overtaken);
    EXPECT_EQ(IsDrained(gateway), !undo);
  }
}

int64_t Decisions(TestGateway& gateway, const std::string& tenant) {
  grpc::ClientContext context;
  v1::GetCacheStatsRequest request;
  request.set_tenant(tenant);
  v1::GetCacheStatsResponse response;
  EXPECT_TRUE(gateway.admin()->GetCacheStats(&context, request, &response).ok());
  for (const v1::CacheStats& stats : response.caches()) {
    if (stats.kind() == "decisions") return stats.entries();
  }
  return -1;
}

// Decisions of both tenants, kept at the gateway.
void Decide(TestGateway& gateway) {
  for (const char* tenant : {"a", "b"}) {
    v1::GenerateRequest request = Ask(kJazz);
    request.set_tenant(tenant);
    EXPECT_TRUE(gateway.Generate(request).status.ok());
    EXPECT_EQ(Decisions(gateway, tenant), 1);
  }
}

grpc::Status FlushDecisions(TestGateway& gateway, const std::string& tenant) {
  grpc::ClientContext context;
  v1::FlushCacheRequest request;
  request.add_kinds("decisions");
  request.set_tenant(tenant);
  v1::FlushCacheResponse response;
  return gateway.admin()->FlushCache(&context, request, &response);
}

// Each gateway has decisions of its own, of the same workers.
TEST(SharedStoreTest, AFlushOfDecisionsReachesEveryGateway) {
  RedisServer redis;
  ServerOptions slow;
  slow.store_poll_interval = absl::Hours(1);
  RedisGateway first(redis.options(), slow);
  RedisGateway told(redis.options(), slow);
  RedisSide side(redis.options());
  Deaf deaf(side.store.get());
  TestGateway polling(RedisGateway::Options(), &deaf);
  const std::vector<TestGateway*> others = {&told, &polling};
  ASSERT_TRUE(first.Apply(kSessionGraph).ok());
  for (TestGateway* gateway : others) ASSERT_TRUE(Applies(*gateway, "test"));
  for (const char* flushed : {"a", "", "b"}) {
    Decide(first);
    for (TestGateway* gateway : others) Decide(*gateway);
    ASSERT_TRUE(FlushDecisions(first, flushed).ok());
    for (const std::string tenant : {"a", "b"}) {
      const bool stays = !std::string(flushed).empty() && tenant != flushed;
      EXPECT_EQ(Decisions(first, tenant), stays ? 1 : 0);
      for (TestGateway* gateway : others) {
        EXPECT_TRUE(Eventually([&] { return Decisions(*gateway, tenant) == (stays ? 1 : 0); }));
      }
    }
  }
  // What the store does not take is told, and done here all the same.
  Decide(first);
  redis.Kill();
  EXPECT_FALSE(FlushDecisions(first, "").ok());
  EXPECT_EQ(Decisions(first, "a"), 0);
}

// Applying what runs here already is no news only where it is what the others run, too.
TEST(SharedStoreTest, AGatewayThatIsBehindDoesNotSayThatNothingChanges) {
  RedisServer redis;
  StubWorker worker;
  RedisGateway first(redis.options());
  ServerOptions slow;
  slow.store_poll_interval = absl::Hours(1);
  ASSERT_TRUE(first.Apply(Graph("one", worker)).ok());
  RedisSide side(redis.options());
  Deaf deaf(side.store.get());
  TestGateway second(slow, &deaf);  // is not told either
  ASSERT_TRUE(Applies(second, "one"));
  EXPECT_TRUE(second.Apply(Graph("one", worker)).ok());
  ASSERT_TRUE(first.Apply(Graph("two", worker)).ok());
  EXPECT_EQ(second.Apply(Graph("one", worker)).error_code(), grpc::StatusCode::ABORTED);
}

// Gateways that would poll in an hour only: what reaches them is notified.
TEST(SharedStoreTest, ChangesAreNotified) {
  RedisServer redis;
  StubWorker worker;
  ServerOptions slow;
  slow.store_poll_interval = absl::Hours(1);
  RedisGateway first(redis.options(), slow);
  RedisGateway second(redis.options(), slow);
  ASSERT_TRUE(first.server().AwaitRestored(absl::Now() + absl::Seconds(60)));
  ASSERT_TRUE(second.server().AwaitRestored(absl::Now() + absl::Seconds(60)));
  ASSERT_TRUE(first.Apply(Graph("one", worker)).ok());
  EXPECT_TRUE(Applies(second, "one"));
  ASSERT_TRUE(second.Apply(Graph("two", worker)).ok());
  EXPECT_TRUE(Applies(first, "two"));
  // A connection that waits for messages and is cut is made again, and then the store is looked at:
  // something may have been missed.
  const auto cut =
      first.client->Call({"CLIENT", "KILL", "TYPE", "pubsub"}, absl::Now() + absl::Seconds(60));
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_EQ(cut->integer, 2);
  ASSERT_TRUE(first.Apply(Graph("three", worker)).ok());
  EXPECT_TRUE(Applies(second, "three"));
  redis.Freeze();
  redis.Thaw();
  ASSERT_TRUE(Eventually([&] { return first.Apply(Graph("four", worker)).ok(); }));
  EXPECT_TRUE(Applies(second, "four"));
}

TEST(SharedStoreTest, WhatIsNotNotifiedIsFoundByPolling) {
  RedisServer redis;
  StubWorker worker;
  RedisSide side(redis.options());
  Deaf deaf(side.store.get());
  TestGateway silent(RedisGateway::Options(), &deaf);  // polls, and neither tells nor is told
  RedisGateway polling(redis.options());
  ASSERT_TRUE(silent.Apply(Graph("one", worker)).ok());
  EXPECT_TRUE(Applies(polling, "one"));
  ASSERT_TRUE(polling.Apply(Graph("two", worker)).ok());
  EXPECT_TRUE(Applies(silent, "two"));
}

// Manifests are large, and gateways many.
TEST(SharedStoreTest, WhatIsAppliedIsSeldomReadAgain) {
  StubWorker worker;
  const auto memory = MakeMemoryStore();
  Deaf store(memory.get());
  TestGateway gateway(RedisGateway::Options(), &store);
  ASSERT_TRUE(gateway.Apply(Graph("one", worker)).ok());
  const int read = store.read;
  const int listed = store.listed;
  EXPECT_TRUE(Eventually([&] { return store.listed >= listed + 50; }));
  EXPECT_LE(store.read, read + 5);
  // Another graph under its number is found all the same.
  ASSERT_TRUE(PutOtherFirstVersion(*memory, worker).ok());
  EXPECT_TRUE(Applies(gateway, "other"));
}

// One that cannot be used here does not take the applied one's place.
TEST(SharedStoreTest, ADamagedVersionChangesNothing) {
  RedisServer redis;
  StubWorker worker;
  RedisGateway gateway(redis.options());
  ASSERT_TRUE(gateway.Apply(Graph("one", worker)).ok());
  ASSERT_TRUE(gateway.store
                  ->Put("graph/version/0000000000000000002", "nonsense", absl::InfiniteFuture(),
                        absl::Now() + absl::Seconds(60))
                  .ok());
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(gateway.Generate(Ask("x")).status.ok());
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_EQ(NameOf(gateway), "one");
  // The next one is of the number after the damaged one.
  v1::ApplyGraphResponse response;
  EXPECT_TRUE(Eventually([&] { return gateway.Apply(Graph("three", worker), &response).ok(); }));
  EXPECT_EQ(response.version(), 3);
  EXPECT_EQ(NameOf(gateway), "three");
}

}  // namespace
}  // namespace octogate::gateway
