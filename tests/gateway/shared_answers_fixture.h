// Gateways with one Redis and a graph that keeps answers, for tests of what they share.
#ifndef OCTOGATE_TESTS_GATEWAY_SHARED_ANSWERS_FIXTURE_H_
#define OCTOGATE_TESTS_GATEWAY_SHARED_ANSWERS_FIXTURE_H_

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_replace.h"
#include "tests/gateway/shared_values_fixture.h"
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
inline constexpr char kHits[] =
    "octogate_cache_lookups_total{cache=\"shared_answers\",outcome=\"hit\"}";
inline constexpr char kMisses[] =
    "octogate_cache_lookups_total{cache=\"shared_answers\",outcome=\"miss\"}";

inline v1::GenerateRequest Of(const std::string& tenant, v1::GenerateRequest request) {
  request.set_tenant(tenant);
  return request;
}

inline bool IsKept(const Answer& answer) {
  return !answer.events.empty() && answer.events.back().finished().has_cached();
}

class SharedAnswersTest : public SharedValuesFixture {
 protected:
  SharedAnswersTest() : SharedValuesFixture("answers") {}

  std::string Graph(const std::string& settings = "", const std::string& name = "test") const {
    return absl::StrReplaceAll(
        kGraph, {{"NAME", name}, {"SETTINGS", settings}, {"WORKER", worker_.address()}});
  }
  void Start(const std::string& settings = "") { StartWith(Graph(settings)); }

  static Answer Say(TestGateway& gateway, const v1::GenerateRequest& request) {
    Answer answer = gateway.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    return answer;
  }
  // Says it, which is answered anew, and waits until the others can find it.
  Answer SayAndShare(TestGateway& gateway, const v1::GenerateRequest& request) {
    return Share([&] {
      Answer answer = Say(gateway, request);
      EXPECT_FALSE(IsKept(answer));
      return answer;
    });
  }
  // Of everything that is shared, or of marks alone.
  void Forget(const std::string& what = "*") {
    for (const RedisReply& key : Call({"KEYS", kPrefix + what}).elements) Call({"DEL", key.text});
  }

  StubWorker worker_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_SHARED_ANSWERS_FIXTURE_H_
