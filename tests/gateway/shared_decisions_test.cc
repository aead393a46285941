// What one gateway's router has decided, another one finds where the graph says so, unless it was
// flushed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/gateway/shared_values_fixture.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
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
constexpr char kHits[] = "octogate_cache_lookups_total{cache=\"shared_decisions\",outcome=\"hit\"}";

class SharedDecisionsTest : public SharedValuesFixture {
 protected:
  SharedDecisionsTest() : SharedValuesFixture("decisions") {}

  static std::string Graph(const std::string& settings) {
    return absl::StrReplaceAll(kGraph, {{"SETTINGS", settings}});
  }
  void Start(const std::string& settings = kShared) { StartWith(Graph(settings)); }

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
    return Share([&] {
      v1::Decision decision = Decide(gateway, query, tenant);
      EXPECT_FALSE(decision.cached());
      return decision;
    });
  }
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
  EXPECT_EQ(SharedStats(*second_).hits(), 1);
  EXPECT_TRUE(Decide(*second_).cached());
  EXPECT_EQ(SharedStats(*second_).lookups(), 1) << "it was asked though what it said is kept here";
  EXPECT_EQ(SharedStats(*second_).writes(), 0) << "it was written back";
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

TEST_F(SharedDecisionsTest, AnotherVersionOrAnotherManifestDecidesAnew) {
  Start();
  DecideAndShare(*first_);
  ASSERT_TRUE(first_->Apply(Graph("shared: true, maxEntries: 9")).ok());
  EXPECT_FALSE(Decide(*Another(2)).cached());
  // Two deployments that do not know of each other, each at its first version.
  RedisSide side(Redis());
  ServerOptions options = Options();
  options.shared_values = side.values.get();
  TestGateway same(options), other(options);
  ASSERT_TRUE(same.Apply(Graph(kShared)).ok());
  ASSERT_TRUE(other.Apply(Graph("shared: true, maxEntries: 10")).ok());
  EXPECT_FALSE(Decide(other).cached());
  EXPECT_TRUE(Decide(same).cached());
}

TEST_F(SharedDecisionsTest, AFlushHoldsAtOnceForWhoHasKeptNothing) {
  Start();
  DecideAndShare(*first_, kQuery, "a");
  DecideAndShare(*first_, kQuery, "b");
  ASSERT_TRUE(Flush(*first_, "a").ok());
  EXPECT_FALSE(Decide(*second_, kQuery, "a").cached());
  EXPECT_TRUE(Decide(*second_, kQuery, "b").cached());
  ASSERT_TRUE(Flush(*first_, "").ok());
  EXPECT_FALSE(Decide(*Another(), kQuery, "b").cached());
  // Those that have kept something forget it when they hear of it, and ask again.
  const int64_t lookups = SharedStats(*second_).lookups();
  EXPECT_TRUE(Eventually([&] {
    Decide(*second_, kQuery, "b");
    return SharedStats(*second_).lookups() > lookups;
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
  EXPECT_FALSE(Flush(*second_, "").ok());
}

TEST_F(SharedDecisionsTest, ADamagedOrHostileDecisionIsNone) {
  Start();
  DecideAndShare(*first_);
  ASSERT_EQ(Names().size(), 1u);
  const std::string name = Names()[0];
  const Written right = ValueOf(name);
  const auto expect = [&](const std::string& what, bool kept, bool damaged) {
    SCOPED_TRACE(what);
    const auto reader = Another();
    const v1::Decision decision = Decide(*reader);
    EXPECT_EQ(decision.cached(), kept);
    EXPECT_EQ(decision.node(), "files");
    EXPECT_EQ(reader->Metric(kDamaged), damaged ? 1 : 0);
    EXPECT_TRUE(v1::Decision::GetReflection()->GetUnknownFields(decision).empty());
  };
  v1::Decision parsed;
  ASSERT_TRUE(parsed.ParseFromString(right.content));
  const auto made = [&](const std::string& content) {
    return Written{right.marks, right.key, content}.Whole();
  };
  const auto changed = [&](const std::function<void(v1::Decision&)>& change) {
    v1::Decision copy = parsed;
    change(copy);
    return made(copy.SerializeAsString());
  };
  std::vector<std::pair<std::string, std::string>> hostile = WronglyFramed(right);
  hostile.insert(
      hostile.end(),
      {
          {"no message", made("\xff\xff\xff")},
          {"another router", changed([](v1::Decision& d) { d.set_router("sums"); })},
          {"another version", changed([](v1::Decision& d) { d.set_graph_version(7); })},
          {"a node that is none", changed([](v1::Decision& d) { d.set_node("nowhere"); })},
          {"the router itself", changed([](v1::Decision& d) { d.set_node("main"); })},
          {"what was not repeatable",
           changed([](v1::Decision& d) { d.add_heads()->set_error("x"); })},
          {"too long", changed([](v1::Decision& d) { d.set_reason(std::string(70'000, 'x')); })},
      });
  for (const auto& [what, value] : hostile) {
    Replace(name, value);
    expect(what, false, true);
  }
  Replace(name, Written{std::string(64, 'a'), right.key, right.content}.Whole());
  expect("other marks", false, false);
  Replace(name, made(right.content + std::string("\xba\x3e\x03xyz", 6)));
  expect("a field that nobody knows", true, false);
  // With a bit changed in what stands before it, no decision is found, whichever bit it is.
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  const std::string whole = right.Whole();
  const size_t before = whole.size() - right.content.size();
  for (int i = 0; i < 5; ++i) {
    const size_t place = std::uniform_int_distribution<size_t>(0, before - 1)(random);
    std::string bytes = whole;
    bytes[place] ^= 1;
    Replace(name, bytes);
    expect("one bit before the decision", false, place >= right.marks.size());
  }
}

}  // namespace
}  // namespace octogate::gateway
