// What one gateway's router has decided, another one finds where the graph says so, unless it was
// flushed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "tests/gateway/redis_gateway.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: NAME}
spec:
  entry: main
  cache: {decisions: {SETTINGS}}
  nodes:
    - {name: main, router: {members: [files, sums], fallback: sorry,
                            heads: [{threshold: 0.2, lexical: {epochs: 40}}]}}
    - name: files
      tool: {tool: reply, parameters: {text: "{query}"}}
      examples: [find large files, list the files in a folder, delete old files, copy a file]
    - name: sums
      tool: {tool: calculator}
      examples: [what is 2 plus 3, 17 times 4, add 5 and 6, 12 percent of 80]
    - {name: sorry, tool: {tool: reply, parameters: {text: "sorry"}}}
)";
constexpr char kShared[] = "shared: true";
constexpr char kQuery[] = "list the old files";
constexpr char kDamaged[] = "octogate_shared_reads_total{result=\"damaged\"}";
constexpr char kHits[] = "octogate_cache_lookups_total{cache=\"shared_decisions\",outcome=\"hit\"}";

absl::Time Soon() { return absl::Now() + absl::Seconds(60); }

class SharedDecisionsTest : public testing::Test {
 protected:
  static std::string Graph(const std::string& settings, const std::string& name = "test") {
    return absl::StrReplaceAll(kGraph, {{"NAME", name}, {"SETTINGS", settings}});
  }
  void Start(const std::string& settings = kShared) {
    first_ = std::make_unique<RedisGateway>(Redis());
    const grpc::Status applied = first_->Apply(Graph(settings));
    ASSERT_TRUE(applied.ok()) << applied.error_message();
    second_ = Another();
  }
  RedisOptions Redis() const {
    RedisOptions redis = redis_.options();
    redis.timeouts = Patient(absl::Milliseconds(500));
    return redis;
  }
  // With nothing kept of its own.
  std::unique_ptr<RedisGateway> Another(int64_t version = 1) {
    auto gateway = std::make_unique<RedisGateway>(Redis());
    EXPECT_TRUE(Eventually([&] {
      const auto state = gateway->server().graphs().state();
      return state != nullptr && state->version() == version;
    }));
    return gateway;
  }

  static v1::Decision Decide(TestGateway& gateway, const std::string& query = kQuery,
                             const std::string& tenant = "") {
    grpc::ClientContext context;
    v1::RouteRequest request;
    v1::Message& message = *request.add_messages();
    message.set_role("user");
    message.set_content(query);
    request.set_tenant(tenant);
    v1::RouteResponse response;
    const grpc::Status status = gateway.gateway()->Route(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.decisions_size() == 1 ? response.decisions(0) : v1::Decision();
  }
  // Decides anew, and waits until the others can find it.
  v1::Decision DecideAndShare(TestGateway& gateway, const std::string& query = kQuery,
                              const std::string& tenant = "") {
    const std::vector<std::string> before = Stored();
    const v1::Decision decision = Decide(gateway, query, tenant);
    EXPECT_FALSE(decision.cached());
    EXPECT_TRUE(Eventually([&] { return Stored() != before; }));
    return decision;
  }
  static grpc::Status Flush(TestGateway& gateway, const std::string& tenant = "") {
    grpc::ClientContext context;
    v1::FlushCacheRequest request;
    request.set_tenant(tenant);
    request.add_kinds("decisions");
    v1::FlushCacheResponse response;
    return gateway.admin()->FlushCache(&context, request, &response);
  }
  static v1::CacheStats Stats(TestGateway& gateway) {
    grpc::ClientContext context;
    v1::GetCacheStatsResponse response;
    EXPECT_TRUE(gateway.admin()->GetCacheStats(&context, {}, &response).ok());
    for (const v1::CacheStats& stats : response.caches()) {
      if (stats.kind() == "shared-decisions") return stats;
    }
    return {};
  }

  RedisReply Call(std::initializer_list<std::string_view> command) {
    const auto reply = first_->client->Call(command, Soon());
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.value_or(RedisReply());
  }
  // Names of decisions, without those of marks.
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const RedisReply& key : Call({"KEYS", "octogate:value:decisions/*"}).elements) {
      if (!absl::StrContains(key.text, "flush")) {
        names.push_back(key.text.substr(std::string("octogate:value:").size()));
      }
    }
    return names;
  }
  // What stands there.
  std::vector<std::string> Stored() {
    std::vector<std::string> stored;
    for (const std::string& name : Names()) {
      stored.push_back(Call({"GET", "octogate:value:" + name}).text);
    }
    std::sort(stored.begin(), stored.end());
    return stored;
  }

  RedisServer redis_{{"--save", ""}};
  std::unique_ptr<RedisGateway> first_;
  std::unique_ptr<RedisGateway> second_;
};

TEST_F(SharedDecisionsTest, AnotherGatewayDecidesTheSameWithoutItsRouter) {
  Start();
  const v1::Decision decision = DecideAndShare(*first_);
  EXPECT_EQ(decision.node(), "files");
  const v1::Decision other = Decide(*second_);
  EXPECT_TRUE(other.cached());
  EXPECT_EQ(other.duration_us(), 0);
  EXPECT_EQ(other.node(), decision.node());
  EXPECT_EQ(other.token(), decision.token());
  EXPECT_EQ(other.argument(), decision.argument());
  EXPECT_EQ(other.probability(), decision.probability());
  EXPECT_EQ(other.reason(), decision.reason());
  EXPECT_EQ(second_->Metric(kHits), 1);
  EXPECT_EQ(Stats(*second_).hits(), 1);
  EXPECT_TRUE(Decide(*second_).cached());
  EXPECT_EQ(Stats(*second_).lookups(), 1) << "it was asked though what it said is kept here";
  EXPECT_EQ(Stats(*second_).writes(), 0) << "it was written back";
}

TEST_F(SharedDecisionsTest, AGraphThatDoesNotSaySoSharesNone) {
  Start("maxEntries: 9");
  EXPECT_FALSE(Decide(*first_).cached());
  EXPECT_FALSE(Decide(*second_).cached());
  EXPECT_TRUE(Decide(*second_).cached());
  EXPECT_THAT(Call({"KEYS", "octogate:value:decisions/*"}).elements, IsEmpty());
}

TEST_F(SharedDecisionsTest, AGatewayWithoutRedisSaysThatItSharesNothing) {
  TestGateway alone;
  v1::ApplyGraphResponse response;
  ASSERT_TRUE(alone.Apply(Graph(kShared), &response).ok());
  ASSERT_EQ(response.warnings_size(), 1);
  EXPECT_THAT(response.warnings(0), HasSubstr("spec.cache.decisions.shared"));
  EXPECT_THAT(response.warnings(0), HasSubstr("--store=redis://"));
  EXPECT_EQ(Decide(alone).node(), "files");
}

TEST_F(SharedDecisionsTest, WhatADecisionDependsOnKeepsThemApart) {
  Start();
  DecideAndShare(*first_);
  EXPECT_FALSE(Decide(*second_, kQuery, "another tenant").cached());
  EXPECT_FALSE(Decide(*second_, absl::StrCat(kQuery, " ")).cached());
  grpc::ClientContext context;
  v1::DrainNodeRequest drain;
  drain.set_name("sums");
  v1::DrainNodeResponse drained;
  ASSERT_TRUE(second_->admin()->DrainNode(&context, drain, &drained).ok());
  EXPECT_FALSE(Decide(*second_).cached());
}

TEST_F(SharedDecisionsTest, AnotherVersionOrAnotherGraphDecidesAnew) {
  Start();
  DecideAndShare(*first_);
  ASSERT_TRUE(first_->Apply(Graph("shared: true, maxEntries: 9")).ok());
  const auto second_version = Another(2);
  EXPECT_FALSE(Decide(*second_version).cached());
}

TEST_F(SharedDecisionsTest, AFlushHoldsAtOnceForWhoHasKeptNothing) {
  Start();
  DecideAndShare(*first_, kQuery, "a");
  DecideAndShare(*first_, kQuery, "b");
  ASSERT_TRUE(Flush(*first_, "a").ok());
  EXPECT_FALSE(Decide(*second_, kQuery, "a").cached());
  EXPECT_TRUE(Decide(*second_, kQuery, "b").cached());
  ASSERT_TRUE(Flush(*first_).ok());
  EXPECT_FALSE(Decide(*Another(), kQuery, "b").cached());
  // Those that have kept something forget it when they hear of it, and ask again.
  const int64_t lookups = Stats(*second_).lookups();
  EXPECT_TRUE(Eventually([&] {
    Decide(*second_, kQuery, "b");
    return Stats(*second_).lookups() > lookups;
  }));
}

TEST_F(SharedDecisionsTest, ExplainSaysWhereItWouldBeFound) {
  Start();
  DecideAndShare(*first_, kQuery, "a");
  const auto explain = [&](const std::string& tenant) {
    grpc::ClientContext context;
    v1::ExplainCacheRequest request;
    *request.mutable_request() = Ask(kQuery);
    request.mutable_request()->set_tenant(tenant);
    v1::ExplainCacheResponse response;
    EXPECT_TRUE(second_->admin()->ExplainCache(&context, request, &response).ok());
    for (const v1::CacheExplanation& cache : response.caches()) {
      if (cache.kind() == "decisions") return cache;
    }
    return v1::CacheExplanation();
  };
  EXPECT_TRUE(explain("a").hit());
  EXPECT_THAT(explain("a").reason(), HasSubstr("of another gateway"));
  EXPECT_FALSE(explain("b").hit());
}

TEST_F(SharedDecisionsTest, WithRedisGoneEveryRouterDecides) {
  Start();
  const v1::Decision decision = DecideAndShare(*first_);
  redis_.Kill();
  const v1::Decision other = Decide(*second_);
  EXPECT_FALSE(other.cached());
  EXPECT_EQ(other.node(), decision.node());
  EXPECT_TRUE(Decide(*second_).cached()) << "what it has decided itself is kept";
  EXPECT_FALSE(Flush(*second_).ok());
}

TEST_F(SharedDecisionsTest, ADamagedOrHostileDecisionIsNone) {
  Start();
  DecideAndShare(*first_);
  ASSERT_EQ(Names().size(), 1u);
  const std::string name = Names()[0];
  const auto right = first_->values->GetMany({&name, 1}, Soon())[0];
  ASSERT_TRUE(right.ok());
  const auto put = [&](const std::string& value) {
    const ValueCache::Entry entry{name, value, absl::Hours(1)};
    ASSERT_TRUE(first_->values->PutMany({&entry, 1}, Soon())[0].ok());
  };
  const auto expect = [&](const std::string& what, bool kept, bool damaged) {
    SCOPED_TRACE(what);
    const auto reader = Another();
    const v1::Decision decision = Decide(*reader);
    EXPECT_EQ(decision.cached(), kept);
    EXPECT_EQ(decision.node(), "files");
    EXPECT_EQ(reader->Metric(kDamaged), damaged ? 1 : 0);
    EXPECT_TRUE(v1::Decision::GetReflection()->GetUnknownFields(decision).empty());
  };
  // MARKS KEY_BYTES, the key, and the decision.
  const size_t space = right->find(' ');
  const size_t key_at = right->find(' ', space + 1) + 1;
  size_t key_bytes = 0;
  ASSERT_TRUE(absl::SimpleAtoi(right->substr(space + 1, key_at - space - 2), &key_bytes));
  const std::string head = right->substr(0, key_at + key_bytes);
  v1::Decision parsed;
  ASSERT_TRUE(parsed.ParseFromString(right->substr(head.size())));
  const auto changed = [&](const std::function<void(v1::Decision&)>& change) {
    v1::Decision copy = parsed;
    change(copy);
    return head + copy.SerializeAsString();
  };
  std::string other_key = *right;
  other_key[head.size() - 1] ^= 1;
  const std::vector<std::pair<std::string, std::string>> hostile = {
      {"nothing", ""},
      {"spaces", "    "},
      {"another key", other_key},
      {"a length that is none", absl::StrCat(right->substr(0, space), " x ", head.substr(key_at))},
      {"no message", head + "\xff\xff\xff"},
      {"another router", changed([](v1::Decision& d) { d.set_router("sums"); })},
      {"another version", changed([](v1::Decision& d) { d.set_graph_version(7); })},
      {"a node that is none", changed([](v1::Decision& d) { d.set_node("nowhere"); })},
      {"the router itself", changed([](v1::Decision& d) { d.set_node("main"); })},
      {"what was not repeatable", changed([](v1::Decision& d) { d.add_heads()->set_error("x"); })},
      {"too long", changed([](v1::Decision& d) { d.set_reason(std::string(70'000, 'x')); })},
  };
  for (const auto& [what, value] : hostile) {
    put(value);
    expect(what, false, true);
  }
  put(std::string(64, 'a') + right->substr(space));
  expect("other marks", false, false);
  put(*right + std::string("\xba\x3e\x03xyz", 6));
  expect("a field that nobody knows", true, false);
  // Where bytes are changed anywhere the decision is not believed, or is one that could have been.
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  for (int i = 0; i < 5; ++i) {
    std::string bytes = *right;
    bytes[std::uniform_int_distribution<size_t>(0, head.size() - 1)(random)] ^= 1;
    put(bytes);
    expect("one bit before the decision", false, bytes.substr(0, space) == right->substr(0, space));
  }
}

}  // namespace
}  // namespace octogate::gateway
