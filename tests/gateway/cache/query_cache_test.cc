// Caches of decisions and answers through a gateway as clients see it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/gateway/stub_worker.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// The stub writes the time at which it answers ("text=@"), so that no two of its answers are equal:
// an equal one was kept.
constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  CACHE
  models:
    - {name: stub, workers: ["WORKER"]}
  nodes:
    - name: main
      router: {members: [talk, sum, draft], fallback: talk, heads: [{threshold: 0.4, lexical: {}}]}
    - name: talk
      examples: ["tell me a story", "say something nice", "stub tokens text", "stub echo"]
      model: {model: stub}
    - name: sum
      examples: ["1 + 1", "12 * 3", "add 4 and 5", "7 / 2"]
      tool: {tool: calculator}
    - name: draft
      examples: ["draft a letter", "write a draft", "draft an email"]
      model: {model: stub}
    - name: sampled
      model: {model: stub, sampling: {temperature: 0.7}}
    - name: seeded
      model: {model: stub, sampling: {temperature: 0.7, seed: 4}}
    - name: checked
      model: {model: stub}
    - name: hidden
      router: {members: [sampled, seeded, checked], fallback: sampled,
               heads: [{threshold: 0.4, lexical: {}}]}
  edges:
    - {from: draft, to: hidden, on: error}
    - {from: checked, to: sum, on: success, input: "1 + 1"}
)";
constexpr char kAnswers[] = "cache: {answers: {}}";
constexpr char kAlike[] = "cache: {answers: {encoder: stub, threshold: 0.9}}";
constexpr char kQuery[] = "stub tokens=2 text=@; tell me a story";

class QueryCacheTest : public testing::Test {
 protected:
  void Apply(const std::string& cache) {
    const grpc::Status status = gateway_.Apply(
        absl::StrReplaceAll(kGraph, {{"WORKER", worker_.address()}, {"CACHE", cache}}));
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  Answer Generate(const v1::GenerateRequest& request) {
    Answer answer = gateway_.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_FALSE(answer.events.empty());
    if (answer.events.empty()) answer.events.emplace_back();
    return answer;
  }
  static bool IsKept(const Answer& answer) { return answer.events.back().finished().has_cached(); }
  bool GetsKept(const v1::GenerateRequest& request) {
    Generate(request);
    return IsKept(Generate(request));
  }
  static const v1::Decision* DecisionOf(const Answer& answer) {
    for (const v1::GenerateResponse& event : answer.events) {
      if (event.has_decision()) return &event.decision();
    }
    return nullptr;
  }
  v1::CacheStats Stats(const std::string& kind, const std::string& tenant = "") {
    grpc::ClientContext context;
    v1::GetCacheStatsRequest request;
    request.set_tenant(tenant);
    v1::GetCacheStatsResponse response;
    EXPECT_TRUE(gateway_.admin()->GetCacheStats(&context, request, &response).ok());
    for (const v1::CacheStats& stats : response.caches()) {
      if (stats.kind() == kind) return stats;
    }
    return {};
  }
  v1::FlushCacheResponse Flush(const std::string& tenant, const std::vector<std::string>& kinds) {
    grpc::ClientContext context;
    v1::FlushCacheRequest request;
    request.set_tenant(tenant);
    for (const std::string& kind : kinds) request.add_kinds(kind);
    v1::FlushCacheResponse response;
    EXPECT_TRUE(gateway_.admin()->FlushCache(&context, request, &response).ok());
    return response;
  }
  v1::ExplainCacheResponse Explain(const v1::GenerateRequest& query) {
    grpc::ClientContext context;
    v1::ExplainCacheRequest request;
    *request.mutable_request() = query;
    v1::ExplainCacheResponse response;
    const grpc::Status status = gateway_.admin()->ExplainCache(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  v1::RouteResponse Route(const std::string& query, bool all_heads = false) {
    grpc::ClientContext context;
    v1::RouteRequest request;
    *request.mutable_messages() = Ask(query).messages();
    request.set_all_heads(all_heads);
    v1::RouteResponse response;
    EXPECT_TRUE(gateway_.gateway()->Route(&context, request, &response).ok());
    return response;
  }

  StubWorker worker_;
  TestGateway gateway_;
};

v1::GenerateRequest Of(const std::string& tenant, v1::GenerateRequest request) {
  request.set_tenant(tenant);
  return request;
}

// What is not about time, cost or where it comes from.
std::string Essence(v1::Decision decision) {
  decision.clear_cached();
  decision.clear_usage();
  decision.clear_duration_us();
  decision.clear_graph_version();
  for (v1::HeadScore& head : *decision.mutable_heads()) head.clear_duration_us();
  return decision.DebugString();
}

TEST_F(QueryCacheTest, ADecisionIsKeptAndSaysSo) {
  Apply("");
  const Answer first = Generate(Ask(kQuery));
  const Answer second = Generate(Ask(kQuery));
  ASSERT_NE(DecisionOf(second), nullptr);
  EXPECT_FALSE(DecisionOf(first)->cached());
  EXPECT_TRUE(DecisionOf(second)->cached());
  EXPECT_EQ(Essence(*DecisionOf(first)), Essence(*DecisionOf(second)));
  EXPECT_EQ(first.kinds(), second.kinds());
  // Answers are not kept unless the graph says so.
  EXPECT_NE(first.text(), second.text());
  EXPECT_FALSE(IsKept(second));
  EXPECT_EQ(Stats("decisions").hits(), 1);
  EXPECT_EQ(Stats("decisions").entries(), 1);
  EXPECT_EQ(Stats("decisions").max_entries(), 65'536);
  EXPECT_EQ(Stats("answers").max_entries(), 0);
  EXPECT_THAT(gateway_.server().metrics().Text(),
              HasSubstr(R"(octogate_cache_lookups_total{cache="decisions",outcome="hit"} 1)"));
}

TEST_F(QueryCacheTest, RouteUsesTheSameDecisionsUnlessItAsksAllHeads) {
  Apply("");
  EXPECT_FALSE(Route("1 + 1").decisions(0).cached());
  EXPECT_TRUE(Route("1 + 1").decisions(0).cached());
  EXPECT_FALSE(Route("1 + 1", /*all_heads=*/true).decisions(0).cached());
  EXPECT_TRUE(DecisionOf(Generate(Ask("1 + 1")))->cached());
}

TEST_F(QueryCacheTest, WithoutEntriesNoDecisionIsKept) {
  Apply("cache: {decisions: {maxEntries: 0}}");
  Route("1 + 1");
  EXPECT_FALSE(Route("1 + 1").decisions(0).cached());
  EXPECT_EQ(Stats("decisions").lookups(), 0);
}

// With a cache and without, of random queries and over versions of the graph.
TEST_F(QueryCacheTest, DecisionsAreThoseOfAGatewayWithoutCaches) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const std::vector<std::string> words = {"tell",  "me", "a", "story", "1", "+",
                                          "draft", "5",  "*", "write", "é", "add"};
  TestGateway plain;
  int kept = 0;
  for (int version = 0; version < 3; ++version) {
    const std::string member = version == 1 ? "[sum, draft, talk]" : "[talk, sum, draft]";
    const auto graph = [&](const std::string& cache) {
      return absl::StrReplaceAll(kGraph, {{"WORKER", worker_.address()},
                                          {"CACHE", cache},
                                          {"[talk, sum, draft]", member},
                                          {"1 + 1\"", absl::StrCat(version, " + 1\"")}});
    };
    ASSERT_TRUE(gateway_.Apply(graph("")).ok());
    ASSERT_TRUE(plain.Apply(graph("cache: {decisions: {maxEntries: 0}}")).ok());
    for (int i = 0; i < 60; ++i) {
      std::string query = words[random() % words.size()];
      if (random() % 3 == 0) absl::StrAppend(&query, " ", words[random() % words.size()]);
      grpc::ClientContext context;
      v1::RouteRequest request;
      *request.mutable_messages() = Ask(query).messages();
      v1::RouteResponse response;
      ASSERT_TRUE(plain.gateway()->Route(&context, request, &response).ok());
      const v1::RouteResponse here = Route(query);
      kept += here.decisions(0).cached();
      EXPECT_FALSE(response.decisions(0).cached());
      EXPECT_EQ(Essence(here.decisions(0)), Essence(response.decisions(0))) << query;
      EXPECT_EQ(here.node(), response.node());
    }
  }
  EXPECT_GT(kept, 0);
}

TEST_F(QueryCacheTest, AnotherVersionDecidesAnew) {
  Apply("");
  Route("1 + 1");
  Apply("cache: {decisions: {maxEntries: 9}}");
  EXPECT_FALSE(Route("1 + 1").decisions(0).cached());
  EXPECT_TRUE(Route("1 + 1").decisions(0).cached());
  grpc::ClientContext context;
  v1::LearnTokenRequest learn;
  learn.set_node("sum");
  learn.add_examples("how much is 3 and 4");
  v1::LearnTokenResponse learned;
  const grpc::Status status = gateway_.admin()->LearnToken(&context, learn, &learned);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_FALSE(Route("1 + 1").decisions(0).cached());
}

TEST_F(QueryCacheTest, TenantsShareNothing) {
  Apply(kAnswers);
  const Answer a = Generate(Of("a", Ask(kQuery)));
  const Answer b = Generate(Of("b", Ask(kQuery)));
  EXPECT_FALSE(IsKept(b));
  EXPECT_FALSE(DecisionOf(b)->cached());
  EXPECT_NE(a.text(), b.text());
  EXPECT_EQ(Generate(Of("a", Ask(kQuery))).text(), a.text());
  EXPECT_EQ(Generate(Of("b", Ask(kQuery))).text(), b.text());
  EXPECT_EQ(Stats("answers", "a").entries(), 1);
  const v1::FlushCacheResponse flushed = Flush("a", {});
  ASSERT_EQ(flushed.flushed_size(), 2);
  EXPECT_EQ(flushed.flushed(0).kind(), "answers");
  EXPECT_EQ(flushed.flushed(0).entries(), 1);
  EXPECT_EQ(flushed.flushed(1).entries(), 1);
  EXPECT_EQ(Stats("answers", "a").entries(), 0);
  EXPECT_FALSE(IsKept(Generate(Of("a", Ask(kQuery)))));
  EXPECT_TRUE(IsKept(Generate(Of("b", Ask(kQuery)))));
}

TEST_F(QueryCacheTest, ADrainedNodeIsNotDecidedForByWhatWasKept) {
  Apply(kAnswers);
  EXPECT_TRUE(GetsKept(Ask(kQuery)));
  EXPECT_EQ(Route("1 + 1").node(), "sum");
  EXPECT_TRUE(Route("1 + 1").decisions(0).cached());
  grpc::ClientContext context;
  v1::DrainNodeRequest drain;
  drain.set_name("sum");
  v1::DrainNodeResponse drained;
  ASSERT_TRUE(gateway_.admin()->DrainNode(&context, drain, &drained).ok());
  EXPECT_EQ(Route("1 + 1").node(), "talk");
  EXPECT_FALSE(IsKept(Generate(Ask(kQuery))));
}

TEST_F(QueryCacheTest, AnAnswerComesAtEveryLevelAsItCameBefore) {
  Apply(kAnswers);
  v1::GenerateRequest request = Ask(kQuery);
  const Answer first = Generate(request);
  const Answer again = Generate(request);
  EXPECT_EQ(again.text(), first.text());
  EXPECT_THAT(again.kinds(), ElementsAre("started", "tokens", "finished"));
  std::vector<int> first_ids, ids;
  for (const auto& event : first.events) {
    first_ids.insert(first_ids.end(), event.tokens().ids().begin(), event.tokens().ids().end());
  }
  for (const auto& event : again.events) {
    ids.insert(ids.end(), event.tokens().ids().begin(), event.tokens().ids().end());
  }
  EXPECT_EQ(ids, first_ids);
  const v1::Finished& finished = again.events.back().finished();
  EXPECT_EQ(finished.node(), "talk");
  EXPECT_EQ(finished.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(finished.usage().completion_tokens(), 0);
  EXPECT_EQ(finished.calls(), 0);
  EXPECT_EQ(finished.text(), "");
  EXPECT_EQ(finished.cached().query(), kQuery);
  EXPECT_EQ(finished.cached().similarity(), 1);
  EXPECT_EQ(finished.trace_id(), again.events[0].started().trace_id());

  request.set_events(v1::EVENT_LEVEL_TOKENS);
  const Answer tokens = Generate(request);
  EXPECT_EQ(tokens.text(), first.text());
  EXPECT_THAT(tokens.kinds(), ElementsAre("tokens", "finished"));

  request.set_events(v1::EVENT_LEVEL_RESULT);
  const Answer result = Generate(request);
  const Answer result_again = Generate(request);
  EXPECT_TRUE(IsKept(result_again));
  EXPECT_THAT(result_again.kinds(), ElementsAre("finished"));
  EXPECT_EQ(result_again.events.back().finished().text(), result.events.back().finished().text());
  EXPECT_NE(result.events.back().finished().text(), "");
  EXPECT_EQ(worker_.started(), 2);
}

TEST_F(QueryCacheTest, ATraceOfAKeptAnswerIsATrace) {
  Apply(kAnswers);
  Generate(Ask(kQuery));
  const Answer again = Generate(Ask(kQuery));
  grpc::ClientContext context;
  v1::GetTraceRequest request;
  request.set_trace_id(again.events.back().finished().trace_id());
  v1::GetTraceResponse response;
  ASSERT_TRUE(gateway_.admin()->GetTrace(&context, request, &response).ok());
  EXPECT_EQ(response.trace().query(), kQuery);
  EXPECT_EQ(response.trace().events_size(), 3);
}

TEST_F(QueryCacheTest, WhatAnAnswerDependsOnIsInItsKey) {
  Apply(kAnswers);
  const v1::GenerateRequest base = Ask(kQuery);
  Generate(base);
  std::vector<v1::GenerateRequest> others;
  const auto with = [&](const auto& change) {
    v1::GenerateRequest request = base;
    change(request);
    others.push_back(request);
  };
  with([](auto& r) { r.set_node("talk"); });
  with([](auto& r) { r.set_max_tokens(200); });
  with([](auto& r) { r.mutable_sampling()->set_top_k(3); });
  with([](auto& r) { r.mutable_sampling()->set_seed(1); });
  with([](auto& r) { r.add_stop("x"); });
  with([](auto& r) { r.set_top_logprobs(1); });
  with([](auto& r) { r.set_max_calls(5); });
  with([](auto& r) { r.set_max_cost(5); });
  with([](auto& r) { r.set_quality(0.5); });
  with([](auto& r) { r.mutable_messages(0)->mutable_content()->append(" "); });
  with([](auto& r) {
    v1::GenerateRequest longer;
    longer.add_messages()->set_role("system");
    longer.mutable_messages(0)->set_content("be brief");
    longer.mutable_messages()->MergeFrom(r.messages());
    r = longer;
  });
  for (const v1::GenerateRequest& request : others) {
    EXPECT_FALSE(IsKept(Generate(request))) << request.ShortDebugString();
    EXPECT_TRUE(IsKept(Generate(request))) << request.ShortDebugString();
  }
  EXPECT_TRUE(IsKept(Generate(base)));
}

TEST_F(QueryCacheTest, WhatMayComeOutDifferentlyIsNotKept) {
  Apply(kAnswers);
  EXPECT_FALSE(GetsKept(Ask("1 + 1")));  // a tool
  EXPECT_FALSE(GetsKept(Ask(kQuery, "sampled")));
  EXPECT_TRUE(GetsKept(Ask(kQuery, "seeded")));
  EXPECT_FALSE(GetsKept(Ask(kQuery, "checked")));  // a tool after a model
  EXPECT_FALSE(GetsKept(Ask(absl::StrCat("stub length=1 text=@", " tell me a story"), "talk")));
  v1::GenerateRequest session = Ask(kQuery);
  session.set_session("s");
  EXPECT_FALSE(GetsKept(session));
  v1::GenerateRequest hot = Ask(kQuery);
  hot.mutable_sampling()->set_temperature(1);
  EXPECT_FALSE(GetsKept(hot));
  hot.mutable_sampling()->set_seed(5);
  EXPECT_TRUE(GetsKept(hot));
}

TEST_F(QueryCacheTest, WhatBypassesCachesNeitherTakesNorPuts) {
  Apply(kAnswers);
  v1::GenerateRequest bypass = Ask(kQuery);
  bypass.set_bypass_cache(true);
  EXPECT_FALSE(GetsKept(bypass));
  EXPECT_FALSE(DecisionOf(Generate(bypass))->cached());
  EXPECT_EQ(Stats("decisions").entries(), 0);
  EXPECT_EQ(Stats("answers").entries(), 0);
  Generate(Ask(kQuery));
  EXPECT_FALSE(IsKept(Generate(bypass)));
}

TEST_F(QueryCacheTest, AFailedOrCancelledAnswerIsNotKept) {
  Apply(kAnswers);
  const v1::GenerateRequest failing = Ask("stub fail_after=1 code=3", "talk");
  EXPECT_FALSE(gateway_.Generate(failing).status.ok());
  EXPECT_EQ(Stats("answers").entries(), 0);
  const v1::GenerateRequest slow = Ask("stub tokens=1000 delay_us=20000", "talk");
  {
    grpc::ClientContext context;
    auto reader = gateway_.gateway()->Generate(&context, slow);
    v1::GenerateResponse event;
    while (reader->Read(&event) && !event.has_tokens()) {
    }
    context.TryCancel();
    while (reader->Read(&event)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_EQ(Stats("answers").entries(), 0);
}

TEST_F(QueryCacheTest, EqualQueriesAtTheSameTimeRunOnce) {
  Apply(kAnswers);
  const v1::GenerateRequest request =
      Ask("stub tokens=1 first_us=1500000 text=@; tell me a story", "talk");
  std::vector<std::future<Answer>> answers;
  for (int i = 0; i < 8; ++i) {
    answers.push_back(std::async(std::launch::async, [&] { return gateway_.Generate(request); }));
  }
  std::string text;
  for (auto& future : answers) {
    const Answer answer = future.get();
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    if (text.empty()) text = answer.text();
    EXPECT_EQ(answer.text(), text);
  }
  EXPECT_EQ(worker_.started(), 1);
}

TEST_F(QueryCacheTest, WhereTheFirstIsCancelledAnotherRuns) {
  Apply(kAnswers);
  const v1::GenerateRequest request =
      Ask("stub tokens=40 delay_us=50000 text=@; tell me a story", "talk");
  grpc::ClientContext leader;
  auto reader = gateway_.gateway()->Generate(&leader, request);
  v1::GenerateResponse event;
  // It leads once it runs.
  while (reader->Read(&event) && !event.has_tokens()) {
  }
  std::vector<std::future<Answer>> followers;
  for (int i = 0; i < 3; ++i) {
    followers.push_back(std::async(std::launch::async, [&] { return gateway_.Generate(request); }));
  }
  leader.TryCancel();
  while (reader->Read(&event)) {
  }
  EXPECT_FALSE(reader->Finish().ok());
  std::string text;
  for (auto& future : followers) {
    const Answer answer = future.get();
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    if (text.empty()) text = answer.text();
    EXPECT_EQ(answer.text(), text);
  }
}

TEST_F(QueryCacheTest, AFollowersOwnDeadlineHolds) {
  Apply(kAnswers);
  const v1::GenerateRequest request =
      Ask("stub tokens=1 first_us=20000000; tell me a story", "talk");
  grpc::ClientContext leader;
  auto reader = gateway_.gateway()->Generate(&leader, request);
  v1::GenerateResponse event;
  ASSERT_TRUE(reader->Read(&event));  // it leads, but may not have come to its node
  while (worker_.started() == 0) absl::SleepFor(absl::Milliseconds(1));
  const Answer follower = gateway_.Generate(request, absl::Seconds(1));
  EXPECT_EQ(follower.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(worker_.started(), 1);
  leader.TryCancel();
  while (reader->Read(&event)) {
  }
  (void)reader->Finish();
}

TEST_F(QueryCacheTest, NobodyWaitsForAClientThatDoesNotRead) {
  Apply(kAnswers);
  // More than waits for a client, and less than is kept.
  v1::GenerateRequest request =
      Ask(absl::StrCat("stub tokens=225 text=", std::string(4000, 'x')), "talk");
  // Its channel takes little that is not read.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16 << 10);
  const auto slow = v1::Gateway::NewStub(
      grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", gateway_.server().port()),
                                grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext leader;
  auto reader = slow->Generate(&leader, request);
  v1::GenerateResponse event;
  ASSERT_TRUE(reader->Read(&event));  // it leads, and reads no more
  const Answer follower = gateway_.Generate(request, absl::Seconds(60));
  EXPECT_TRUE(follower.status.ok()) << follower.status.error_message();
  EXPECT_EQ(follower.text().size(), 225 * 4000);
  leader.TryCancel();
  while (reader->Read(&event)) {
  }
  (void)reader->Finish();
}

TEST_F(QueryCacheTest, MoreLookUpsByMeaningThanMayRunFindNothing) {
  Apply(kAlike);
  Generate(Ask(kQuery));
  const std::string other = "stub tokens=3 text=@; say something nice";
  std::atomic<int>& by_meaning = gateway_.server().graphs().state()->caches->by_meaning;
  EXPECT_EQ(by_meaning.load(), 0);
  by_meaning.store(QueryCaches::kMaxByMeaning);
  EXPECT_FALSE(IsKept(Generate(Ask(other))));
  EXPECT_EQ(by_meaning.load(), QueryCaches::kMaxByMeaning);
  by_meaning.store(0);
  EXPECT_TRUE(IsKept(Generate(Ask(absl::StrCat(other, " again")))));
  EXPECT_EQ(by_meaning.load(), 0);
}

// The stub's vectors are all the same: every query is like every other one.
TEST_F(QueryCacheTest, AnAnswerIsGivenToOtherWordsThatGoToTheSameNode) {
  Apply(kAlike);
  const Answer first = Generate(Ask(kQuery));
  const std::string other = "stub tokens=3 text=@; say something nice";
  const Answer alike = Generate(Ask(other));
  ASSERT_TRUE(IsKept(alike));
  EXPECT_EQ(alike.text(), first.text());
  EXPECT_EQ(alike.events.back().finished().cached().query(), kQuery);
  EXPECT_NEAR(alike.events.back().finished().cached().similarity(), 1, 1e-6);
  // Elsewhere, of another tenant, or with other parameters: not.
  EXPECT_FALSE(IsKept(Generate(Ask("draft a letter"))));
  EXPECT_FALSE(IsKept(Generate(Of("b", Ask(other)))));
  v1::GenerateRequest longer = Ask(other);
  longer.set_max_tokens(9);
  EXPECT_FALSE(IsKept(Generate(longer)));
  EXPECT_FALSE(IsKept(Generate(Ask("1 + 1"))));
}

TEST_F(QueryCacheTest, KeptAnswersAreServedWhereOthersAreRefused) {
  ServerOptions options;
  options.admission.max_concurrent = 1;
  options.admission.max_waiting = 0;
  TestGateway small(options);
  ASSERT_TRUE(
      small.Apply(absl::StrReplaceAll(kGraph, {{"WORKER", worker_.address()}, {"CACHE", kAnswers}}))
          .ok());
  ASSERT_TRUE(small.Generate(Ask(kQuery)).status.ok());
  grpc::ClientContext busy;
  auto reader = small.gateway()->Generate(&busy, Ask("stub tokens=1 first_us=60000000", "talk"));
  v1::GenerateResponse event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(small.Generate(Ask("stub tokens=1", "talk")).status.error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  const Answer kept = small.Generate(Ask(kQuery));
  EXPECT_TRUE(kept.status.ok()) << kept.status.error_message();
  EXPECT_TRUE(IsKept(kept));
  busy.TryCancel();
  while (reader->Read(&event)) {
  }
  (void)reader->Finish();
}

TEST_F(QueryCacheTest, ExplainsWhatCachesWouldDo) {
  Apply(kAnswers);
  v1::ExplainCacheResponse explained = Explain(Ask(kQuery));
  ASSERT_EQ(explained.caches_size(), 2);
  EXPECT_EQ(explained.caches(0).kind(), "answers");
  EXPECT_FALSE(explained.caches(0).hit());
  EXPECT_EQ(explained.caches(1).kind(), "decisions");
  EXPECT_FALSE(explained.caches(1).hit());
  EXPECT_EQ(explained.caches(1).key().size(), 64u);
  Generate(Ask(kQuery));
  const int64_t lookups = Stats("answers").lookups();
  explained = Explain(Ask(kQuery));
  ASSERT_EQ(explained.caches_size(), 3);
  EXPECT_TRUE(explained.caches(0).hit());
  EXPECT_EQ(explained.caches(0).answer().query(), kQuery);
  EXPECT_TRUE(explained.caches(1).hit());
  EXPECT_THAT(explained.caches(1).reason(), HasSubstr("'talk'"));
  EXPECT_EQ(explained.caches(2).kind(), "prefixes");
  EXPECT_EQ(explained.caches(2).replica(), worker_.address());
  EXPECT_FALSE(explained.caches(2).hit());  // it tells nothing
  EXPECT_EQ(Stats("answers").lookups(), lookups);
  EXPECT_FALSE(Explain(Of("b", Ask(kQuery))).caches(0).hit());
  v1::GenerateRequest bypass = Ask(kQuery);
  bypass.set_bypass_cache(true);
  EXPECT_THAT(Explain(bypass).caches(0).reason(), HasSubstr("bypasses"));
  Apply(kAlike);
  Generate(Ask(kQuery));
  explained = Explain(Ask("stub tokens=3 text=@; say something nice"));
  EXPECT_TRUE(explained.caches(0).hit()) << explained.caches(0).reason();
  EXPECT_THAT(explained.caches(0).reason(), HasSubstr("same meaning"));
}

TEST_F(QueryCacheTest, RefusesWhatIsNoRequest) {
  Apply("");
  grpc::ClientContext context;
  v1::FlushCacheRequest flush;
  flush.add_kinds("pages");
  v1::FlushCacheResponse flushed;
  const grpc::Status status = gateway_.admin()->FlushCache(&context, flush, &flushed);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("kinds[0]"));
  grpc::ClientContext other;
  v1::ExplainCacheResponse explained;
  EXPECT_EQ(gateway_.admin()->ExplainCache(&other, {}, &explained).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace octogate::gateway
