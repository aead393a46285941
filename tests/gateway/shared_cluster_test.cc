// Sessions and traces that gateways share through a Redis Cluster, while a master dies and while
// its servers are full: every query is answered, and what is shared is found again by itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/common/redis/redis_cluster.h"
#include "tests/gateway/redis_gateway.h"
#include "tests/gateway/session_graph.h"

namespace octogate::gateway {
namespace {

using ::testing::AnyOf;

class SharedClusterTest : public testing::Test {
 protected:
  static constexpr int kMasters = RedisCluster::kMasters;

  explicit SharedClusterTest(int node_timeout_ms = 30'000) : cluster_(node_timeout_ms) {}

  void SetUp() override {
    first_ = NewGateway();
    second_ = NewGateway();
    ASSERT_TRUE(Eventually([&] { return first_->Apply(kSessionGraph).ok(); }));
    ASSERT_TRUE(Eventually([&] { return second_->server().graphs().state() != nullptr; }));
  }

  std::unique_ptr<RedisGateway> NewGateway() {
    ServerOptions options = RedisGateway::Options();
    options.sessions.believed_for = absl::ZeroDuration();
    RedisOptions redis = cluster_.options();
    redis.timeouts = Patient(absl::Milliseconds(500));
    return std::make_unique<RedisGateway>(redis, options);
  }

  struct Said {
    std::string text;
    std::string trace_id;
  };
  // By a tenant of its own: sessions and traces of many are in many slots.
  static Said Say(RedisGateway& gateway, const std::string& session, const std::string& query) {
    v1::GenerateRequest request = Ask(query);
    request.set_session(session);
    request.set_tenant(session);
    const Answer answer = gateway.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    if (answer.events.empty()) return {};
    return {answer.text(), answer.events.front().started().trace_id()};
  }
  static grpc::StatusCode Find(RedisGateway& gateway, const std::string& trace_id) {
    grpc::ClientContext context;
    v1::GetTraceRequest request;
    request.set_trace_id(trace_id);
    v1::GetTraceResponse response;
    const grpc::Status status = gateway.admin()->GetTrace(&context, request, &response);
    EXPECT_EQ(response.trace().trace_id(), status.ok() ? trace_id : "");
    return status.error_code();
  }
  // Whether what one gateway is told now is known to the other soon.
  static bool Shares(RedisGateway& from, RedisGateway& to) {
    static int n = 0;
    return Eventually([&] {
      const std::string session = absl::StrCat("probe", n++);
      const Said said = Say(from, session, kJazz);
      EXPECT_EQ(said.text, "music");
      absl::SleepFor(absl::Milliseconds(50));
      return Say(to, session, kSum).text == "music" &&
             Find(to, said.trace_id) == grpc::StatusCode::OK;
    });
  }
  static void ExpectNoDamage(RedisGateway& gateway) {
    EXPECT_EQ(gateway.Metric("octogate_shared_reads_total{result=\"damaged\"}"), 0);
    EXPECT_EQ(gateway.Metric("octogate_shared_traces_total{result=\"damaged\"}"), 0);
  }
  size_t SharedSessions() {
    size_t count = 0;
    for (int i = 0; i < kMasters; ++i) {
      const auto keys = RedisCluster::Ask(cluster_.node(i), {"KEYS", "octogate:value:session/*"});
      count += keys.elements.size();
    }
    return count;
  }
  void SetOfMasters(std::string_view name, std::string_view value) {
    for (int i = 0; i < kMasters; ++i) {
      RedisCluster::Ask(cluster_.node(i), {"CONFIG", "SET", name, value});
    }
  }
  int64_t Info(int node, const std::string& name) {
    const std::string text = RedisCluster::Ask(cluster_.node(node), {"INFO"}).text;
    const size_t at = text.find("\n" + name + ":");
    int64_t value = -1;
    if (at == std::string::npos) return value;
    const size_t begin = at + name.size() + 2;
    EXPECT_TRUE(absl::SimpleAtoi(text.substr(begin, text.find('\r', begin) - begin), &value));
    return value;
  }

  RedisCluster cluster_;
  std::unique_ptr<RedisGateway> first_;
  std::unique_ptr<RedisGateway> second_;
};

class SharedFailoverTest : public SharedClusterTest {
 protected:
  SharedFailoverTest() : SharedClusterTest(/*node_timeout_ms=*/2000) {}
};

TEST_F(SharedFailoverTest, WhatIsSharedOutlivesTheDeathOfAMaster) {
  std::vector<std::string> traces;
  for (int i = 0; i < 30; ++i) {
    const Said said = Say(*first_, absl::StrCat("s", i), kJazz);
    EXPECT_EQ(said.text, "music");
    traces.push_back(said.trace_id);
  }
  for (const std::string& id : traces) {
    EXPECT_TRUE(Eventually([&] { return Find(*second_, id) == grpc::StatusCode::OK; }));
  }
  ASSERT_TRUE(Eventually([&] { return SharedSessions() == 30; }));
  for (int i = 0; i < kMasters; ++i) {
    // WAIT is about what a server had written when this connection asked it something last.
    RedisCluster::Ask(cluster_.node(i), {"PING"});
    RedisCluster::AwaitTrue([&] {
      return RedisCluster::Ask(cluster_.node(i), {"WAIT", "1", "1000"}).integer >= 1;
    });
  }
  const int victim = static_cast<int>(std::random_device{}() % kMasters);
  SCOPED_TRACE(absl::StrCat("node ", victim));
  cluster_.node(victim).server->Kill();
  for (int i = 0; i < 30; ++i) {
    EXPECT_EQ(Say(*first_, absl::StrCat("s", i), kSum).text, "music") << "it knows its own";
    EXPECT_EQ(Say(*second_, absl::StrCat("s", i), kJazz).text, "music");
    EXPECT_EQ(Say(*second_, absl::StrCat("new", i), kSum).text, "sums");
    EXPECT_THAT(Find(*second_, traces[static_cast<size_t>(i)]),
                AnyOf(grpc::StatusCode::OK, grpc::StatusCode::UNAVAILABLE));
  }
  // A replica takes the master's place, with all that it had been told.
  const auto third = NewGateway();
  ASSERT_TRUE(Eventually([&] { return third->server().graphs().state() != nullptr; }));
  for (const std::string& id : traces) {
    EXPECT_TRUE(Eventually([&] { return Find(*third, id) == grpc::StatusCode::OK; }));
  }
  EXPECT_TRUE(Eventually([&] { return third->client->stats().reachable; }));
  absl::SleepFor(SharedValues::kPause);  // in which nothing is read after a failure
  for (int i = 0; i < 30; ++i) {
    EXPECT_EQ(Say(*third, absl::StrCat("s", i), kSum).text, "music") << i;
  }
  EXPECT_TRUE(Shares(*first_, *second_));
  EXPECT_TRUE(Shares(*second_, *third));
  for (RedisGateway* gateway : {first_.get(), second_.get(), third.get()}) ExpectNoDamage(*gateway);
}

// What is there stays and can be read; what is new is known where it was said.
TEST_F(SharedClusterTest, AFullClusterTakesNothingNewUntilThereIsRoom) {
  std::vector<std::string> traces;
  for (int i = 0; i < 10; ++i) {
    traces.push_back(Say(*first_, absl::StrCat("old", i), kJazz).trace_id);
    EXPECT_TRUE(Eventually([&] { return Find(*second_, traces.back()) == grpc::StatusCode::OK; }));
  }
  ASSERT_TRUE(Eventually([&] { return SharedSessions() == 10; }));
  SetOfMasters("maxmemory-policy", "noeviction");
  SetOfMasters("maxmemory", "1");
  for (int i = 0; i < 10; ++i) {
    const std::string session = absl::StrCat("new", i);
    EXPECT_EQ(Say(*first_, session, kJazz).text, "music");
    EXPECT_EQ(Say(*first_, session, kSum).text, "music") << "it knows its own";
    EXPECT_EQ(Say(*second_, session, kSum).text, "sums") << "nobody has told it";
  }
  EXPECT_TRUE(Eventually([&] {
    return first_->Metric("octogate_shared_writes_total{result=\"dropped\"}") >= 10 &&
           first_->Metric("octogate_shared_traces_total{result=\"dropped\"}") >= 20;
  }));
  // Of the tenants of old, too: a trace that is refused must not cost those before it.
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Say(*second_, absl::StrCat("old", i), kSum).text, "music");
  }
  EXPECT_TRUE(Eventually(
      [&] { return second_->Metric("octogate_shared_traces_total{result=\"dropped\"}") >= 20; }));
  const auto third = NewGateway();
  ASSERT_TRUE(Eventually([&] { return third->server().graphs().state() != nullptr; }));
  for (const std::string& id : traces) EXPECT_EQ(Find(*third, id), grpc::StatusCode::OK) << id;
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Say(*third, absl::StrCat("old", i), kSum).text, "music");
  }
  SetOfMasters("maxmemory", "0");
  EXPECT_TRUE(Shares(*first_, *second_));
  EXPECT_TRUE(Shares(*second_, *third));
  for (RedisGateway* gateway : {first_.get(), second_.get(), third.get()}) ExpectNoDamage(*gateway);
}

// A server that may drop what it likes drops halves of what belongs together, and the graph.
TEST_F(SharedClusterTest, WhatAClusterHasEvictedIsAsIfItHadNeverBeen) {
  std::vector<std::string> traces;
  for (int i = 0; i < 10; ++i) {
    traces.push_back(Say(*first_, absl::StrCat("old", i), kJazz).trace_id);
  }
  SetOfMasters("maxmemory-policy", "allkeys-lru");
  for (int i = 0; i < kMasters; ++i) {
    RedisCluster::Ask(cluster_.node(i), {"CONFIG", "SET", "maxmemory",
                                         absl::StrCat(Info(i, "used_memory") + 6'000'000)});
  }
  const std::string filling(100'000, 'x');
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 20; ++i) {
      const std::string key = absl::StrCat("filling/", round, "/", i);
      const auto reply =
          first_->client->Call({"SET", key, filling}, absl::Now() + absl::Seconds(60));
      // Its own buffers may leave no room for a moment.
      EXPECT_TRUE(reply.ok() || absl::IsResourceExhausted(reply.status())) << reply.status();
    }
    const std::string session = absl::StrCat("new", round);
    EXPECT_EQ(Say(*first_, session, kJazz).text, "music");
    EXPECT_THAT(Say(*second_, session, kSum).text, AnyOf("music", "sums"));
    EXPECT_EQ(Say(*first_, absl::StrCat("old", round % 10), kJazz).text, "music");
    EXPECT_THAT(Find(*second_, traces[static_cast<size_t>(round % 10)]),
                AnyOf(grpc::StatusCode::OK, grpc::StatusCode::NOT_FOUND));
  }
  for (int i = 0; i < kMasters; ++i) EXPECT_GT(Info(i, "evicted_keys"), 0);
  // While it goes on evicting, what is new is shared.
  EXPECT_TRUE(Shares(*first_, *second_));
  SetOfMasters("maxmemory", "0");
  EXPECT_TRUE(Shares(*second_, *first_));
  for (RedisGateway* gateway : {first_.get(), second_.get()}) ExpectNoDamage(*gateway);
}

}  // namespace
}  // namespace octogate::gateway
