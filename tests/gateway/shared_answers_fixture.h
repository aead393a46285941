// Gateways with one Redis and a graph that keeps answers, for tests of what they share.
#ifndef OCTOGATE_TESTS_GATEWAY_SHARED_ANSWERS_FIXTURE_H_
#define OCTOGATE_TESTS_GATEWAY_SHARED_ANSWERS_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "tests/gateway/redis_gateway.h"
#include "tests/gateway/stub_worker.h"

namespace octogate::gateway {

// The stub writes the time at which it answers ("text=@"), so that no two of its answers are equal.
inline constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: NAME}
spec:
  entry: talk
  cache: {answers: {SETTINGS}}
  models:
    - {name: stub, workers: ["WORKER"]}
  nodes:
    - {name: talk, model: {model: stub}}
    - {name: write, model: {model: stub}}
    - {name: sum, tool: {tool: calculator}}
  edges:
    - {from: talk, to: write, on: error}
    - {from: write, to: sum, on: error}
)";
inline constexpr char kQuery[] = "stub tokens=3 text=@;";
inline constexpr char kFailed[] = "octogate_shared_reads_total{result=\"failed\"}";
inline constexpr char kDamaged[] = "octogate_shared_reads_total{result=\"damaged\"}";
inline constexpr char kHits[] =
    "octogate_cache_lookups_total{cache=\"shared_answers\",outcome=\"hit\"}";
inline constexpr char kMisses[] =
    "octogate_cache_lookups_total{cache=\"shared_answers\",outcome=\"miss\"}";

inline absl::Time Soon() { return absl::Now() + absl::Seconds(60); }

inline v1::GenerateRequest Of(const std::string& tenant, v1::GenerateRequest request) {
  request.set_tenant(tenant);
  return request;
}

inline bool IsKept(const Answer& answer) {
  return !answer.events.empty() && answer.events.back().finished().has_cached();
}

// As an operator would.
inline grpc::Status Flush(TestGateway& gateway, const std::string& tenant) {
  grpc::ClientContext context;
  v1::FlushCacheRequest request;
  request.set_tenant(tenant);
  v1::FlushCacheResponse response;
  return gateway.admin()->FlushCache(&context, request, &response);
}

inline v1::CacheStats SharedStats(TestGateway& gateway) {
  grpc::ClientContext context;
  v1::GetCacheStatsResponse response;
  EXPECT_TRUE(gateway.admin()->GetCacheStats(&context, {}, &response).ok());
  for (const v1::CacheStats& stats : response.caches()) {
    if (stats.kind() == "shared-answers") return stats;
  }
  return {};
}

class SharedAnswersTest : public testing::Test {
 protected:
  static ServerOptions Options() {
    ServerOptions options = RedisGateway::Options();
    // What a gateway has itself is as good as what it shares.
    options.graph.shared_answers.believed_for = absl::ZeroDuration();
    return options;
  }
  RedisOptions Redis() const {
    RedisOptions redis = redis_.options();
    redis.timeouts = Patient(absl::Milliseconds(500));
    return redis;
  }
  std::string Graph(const std::string& settings = "", const std::string& name = "test") const {
    return absl::StrReplaceAll(
        kGraph, {{"NAME", name}, {"SETTINGS", settings}, {"WORKER", worker_.address()}});
  }
  void Start(const std::string& settings = "") {
    first_ = std::make_unique<RedisGateway>(Redis(), Options());
    second_ = std::make_unique<RedisGateway>(Redis(), Options());
    const grpc::Status applied = first_->Apply(Graph(settings));
    ASSERT_TRUE(applied.ok()) << applied.error_message();
    AwaitGraph(*second_, 1);
  }
  std::unique_ptr<RedisGateway> Another() {
    auto gateway = std::make_unique<RedisGateway>(Redis(), Options());
    AwaitGraph(*gateway, 1);
    return gateway;
  }
  static void AwaitGraph(TestGateway& gateway, int64_t version) {
    ASSERT_TRUE(Eventually([&] {
      const auto state = gateway.server().graphs().state();
      return state != nullptr && state->version() == version && gateway.server().graphs().Ready();
    }));
  }

  static Answer Say(TestGateway& gateway, const v1::GenerateRequest& request) {
    Answer answer = gateway.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    return answer;
  }
  // Says it, which is answered anew, and waits until the others can find it.
  Answer SayAndShare(TestGateway& gateway, const v1::GenerateRequest& request) {
    const std::vector<std::string> before = Stored();
    Answer answer = Say(gateway, request);
    EXPECT_FALSE(IsKept(answer));
    EXPECT_TRUE(Eventually([&] { return Stored() != before; }));
    return answer;
  }
  RedisReply Call(std::initializer_list<std::string_view> command) {
    const auto reply = first_->client->Call(command, Soon());
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.value_or(RedisReply());
  }
  // Names of answers, without those of marks.
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const RedisReply& key : Call({"KEYS", "octogate:value:answers/*"}).elements) {
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
  // Of everything that is shared, or of marks alone.
  void Forget(const std::string& what = "*") {
    for (const RedisReply& key : Call({"KEYS", "octogate:value:" + what}).elements) {
      Call({"DEL", key.text});
    }
  }

  RedisServer redis_{{"--save", ""}};
  StubWorker worker_;
  std::unique_ptr<RedisGateway> first_;
  std::unique_ptr<RedisGateway> second_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_SHARED_ANSWERS_FIXTURE_H_
