// What one gateway has answered, another one finds, unless it was flushed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "tests/gateway/shared_answers_fixture.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

TEST_F(SharedAnswersTest, AnotherGatewayAnswersWithoutAModel) {
  Start();
  const Answer answer = SayAndShare(*first_, Ask(kQuery));
  const int started = worker_.started();
  const Answer other = Say(*second_, Ask(kQuery));
  ASSERT_TRUE(IsKept(other));
  EXPECT_EQ(other.text(), answer.text());
  EXPECT_EQ(other.kinds(), (std::vector<std::string>{"started", "tokens", "finished"}));
  const v1::Finished& finished = other.events.back().finished();
  EXPECT_EQ(finished.node(), "talk");
  EXPECT_EQ(finished.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(finished.cached().query(), kQuery);
  EXPECT_EQ(finished.cached().similarity(), 1);
  std::vector<int> ids, other_ids;
  for (const auto& event : answer.events) {
    ids.insert(ids.end(), event.tokens().ids().begin(), event.tokens().ids().end());
  }
  for (const auto& event : other.events) {
    other_ids.insert(other_ids.end(), event.tokens().ids().begin(), event.tokens().ids().end());
  }
  EXPECT_FALSE(ids.empty());
  EXPECT_EQ(other_ids, ids);
  EXPECT_EQ(second_->Metric(kHits), 1);
  EXPECT_EQ(SharedStats(*second_).hits(), 1);
  EXPECT_EQ(SharedStats(*second_).lookups(), 1);
  EXPECT_EQ(worker_.started(), started);
}

TEST_F(SharedAnswersTest, WhatWasFoundIsKeptHereForItsTime) {
  ServerOptions options = RedisGateway::Options();
  options.graph.shared_answers.believed_for = absl::Hours(1);
  Start();
  RedisGateway third(Redis(), options);
  AwaitGraph(third, 1);
  const Answer answer = SayAndShare(*first_, Ask(kQuery));
  EXPECT_EQ(Say(third, Ask(kQuery)).text(), answer.text());
  EXPECT_EQ(SharedStats(third).lookups(), 1);
  redis_.Kill();
  EXPECT_EQ(Say(third, Ask(kQuery)).text(), answer.text());
  EXPECT_EQ(SharedStats(third).lookups(), 1) << "it was asked though what it said holds";
  EXPECT_EQ(SharedStats(third).writes(), 0) << "it was written back";
}

TEST_F(SharedAnswersTest, StreamedTokensAndWholeTextsAreSharedApart) {
  Start();
  v1::GenerateRequest request = Ask(kQuery);
  const Answer answer = SayAndShare(*first_, request);
  request.set_events(v1::EVENT_LEVEL_TOKENS);
  const Answer tokens = Say(*second_, request);
  EXPECT_TRUE(IsKept(tokens));
  EXPECT_EQ(tokens.text(), answer.text());
  EXPECT_EQ(tokens.kinds(), (std::vector<std::string>{"tokens", "finished"}));
  request.set_events(v1::EVENT_LEVEL_RESULT);
  const Answer whole = SayAndShare(*second_, request);
  const Answer again = Say(*first_, request);
  EXPECT_TRUE(IsKept(again));
  EXPECT_EQ(again.events.back().finished().text(), whole.events.back().finished().text());
}

TEST_F(SharedAnswersTest, ExplainsWhereItWouldBeFound) {
  Start();
  SayAndShare(*first_, Ask(kQuery));
  const auto explain = [&](const v1::GenerateRequest& query) {
    grpc::ClientContext context;
    v1::ExplainCacheRequest request;
    *request.mutable_request() = query;
    v1::ExplainCacheResponse response;
    EXPECT_TRUE(second_->admin()->ExplainCache(&context, request, &response).ok());
    return response.caches_size() == 0 ? v1::CacheExplanation() : response.caches(0);
  };
  EXPECT_TRUE(explain(Ask(kQuery)).hit());
  EXPECT_THAT(explain(Ask(kQuery)).reason(), HasSubstr("another gateway"));
  EXPECT_EQ(explain(Ask(kQuery)).answer().query(), kQuery);
  EXPECT_FALSE(explain(Ask("stub text=other")).hit());
  EXPECT_FALSE(explain(Of("b", Ask(kQuery))).hit());
  Say(*second_, Ask(kQuery));
  EXPECT_THAT(explain(Ask(kQuery)).reason(), HasSubstr("answered before"));
}

TEST_F(SharedAnswersTest, WhatAnAnswerDependsOnKeepsThemApart) {
  Start();
  SayAndShare(*first_, Ask(kQuery));
  v1::GenerateRequest sampled = Ask(kQuery);
  sampled.mutable_sampling()->set_temperature(1);
  sampled.mutable_sampling()->set_seed(5);
  v1::GenerateRequest longer = Ask(kQuery);
  longer.set_max_tokens(9);
  v1::GenerateRequest conversation = Ask("before");
  conversation.mutable_messages(0)->set_role("system");
  *conversation.add_messages() = Ask(kQuery).messages(0);
  v1::GenerateRequest measured = Ask(kQuery);
  measured.set_top_logprobs(2);
  for (const v1::GenerateRequest& request :
       {sampled, longer, conversation, measured, Ask(kQuery, "write"), Of("b", Ask(kQuery)),
        Ask(absl::StrCat(kQuery, " "))}) {
    SCOPED_TRACE(request.ShortDebugString());
    const Answer other = SayAndShare(*second_, request);
    EXPECT_EQ(Say(*first_, request).text(), other.text());
  }
  // A node that is drained makes it another query.
  grpc::ClientContext context;
  v1::DrainNodeRequest drain;
  drain.set_name("write");
  v1::DrainNodeResponse drained;
  ASSERT_TRUE(second_->admin()->DrainNode(&context, drain, &drained).ok());
  EXPECT_FALSE(IsKept(Say(*second_, Ask(kQuery))));
}

TEST_F(SharedAnswersTest, NoTenantHasAnothersWhateverTheyAreCalled) {
  Start();
  const std::vector<std::string> tenants = {"a", "ab", "1:a", "a1:", "default", "flush-all", "é"};
  std::vector<std::string> texts;
  for (const std::string& tenant : tenants) {
    texts.push_back(SayAndShare(*first_, Of(tenant, Ask(kQuery))).text());
  }
  for (size_t i = 0; i < tenants.size(); ++i) {
    EXPECT_EQ(Say(*second_, Of(tenants[i], Ask(kQuery))).text(), texts[i]);
  }
  EXPECT_TRUE(Call({"KEYS", "*default*"}).elements.empty()) << "the server is told names";
}

TEST_F(SharedAnswersTest, AnotherVersionOrAnotherGraphAnswersAnew) {
  Start();
  SayAndShare(*first_, Ask(kQuery));
  ASSERT_TRUE(second_->Apply(Graph("maxEntries: 77")).ok());
  EXPECT_FALSE(IsKept(Say(*second_, Ask(kQuery))));
  // Two deployments that do not know of each other, each at its first version.
  RedisSide side(Redis());
  ServerOptions options = Options();
  options.shared_values = side.values.get();
  TestGateway same(options), other(options);
  ASSERT_TRUE(same.Apply(Graph()).ok());
  ASSERT_TRUE(other.Apply(Graph("", "other")).ok());
  EXPECT_FALSE(IsKept(Say(other, Ask(kQuery))));
  EXPECT_TRUE(IsKept(Say(same, Ask(kQuery))));
}

TEST_F(SharedAnswersTest, WhatIsNotKeptIsNotAskedFor) {
  Start();
  v1::GenerateRequest bypass = Ask(kQuery);
  bypass.set_bypass_cache(true);
  v1::GenerateRequest session = Ask(kQuery);
  session.set_session("s");
  for (const v1::GenerateRequest& request : {bypass, session}) {
    EXPECT_FALSE(IsKept(Say(*first_, request)));
    EXPECT_FALSE(IsKept(Say(*first_, request)));
  }
  EXPECT_EQ(SharedStats(*first_).lookups(), 0);
  Say(*first_, Ask("1 + 1", "sum"));
  EXPECT_FALSE(first_->Generate(Ask("stub fail_after=1 code=3")).status.ok());
  Say(*first_, Ask("stub length=1"));
  EXPECT_EQ(SharedStats(*first_).lookups(), 3);
  EXPECT_EQ(SharedStats(*first_).writes(), 0);
  EXPECT_TRUE(Names().empty());
}

TEST_F(SharedAnswersTest, AGraphThatKeepsNoAnswersSharesNone) {
  Start();
  ASSERT_TRUE(first_->Apply(absl::StrReplaceAll(Graph(), {{"cache: {answers: {}}", ""}})).ok());
  EXPECT_FALSE(IsKept(Say(*first_, Ask(kQuery))));
  EXPECT_FALSE(IsKept(Say(*first_, Ask(kQuery))));
  EXPECT_EQ(SharedStats(*first_).kind(), "");
  EXPECT_EQ(first_->Metric(kMisses), 0);
  EXPECT_TRUE(Names().empty());
}

TEST_F(SharedAnswersTest, AnswersToOtherWordsStayEachGatewaysOwn) {
  Start("encoder: stub, threshold: 0.9");
  // The stub's vectors are all the same: every query is like every other one.
  const Answer answer = SayAndShare(*first_, Ask(kQuery));
  const std::string alike = absl::StrCat(kQuery, " in other words");
  EXPECT_EQ(Say(*first_, Ask(alike)).text(), answer.text());
  EXPECT_FALSE(IsKept(Say(*second_, Ask(alike))));
  EXPECT_EQ(Say(*second_, Ask(kQuery)).text(), answer.text()) << "the same words first";
}

TEST_F(SharedAnswersTest, AFlushHoldsAtEveryGatewayAtOnce) {
  Start();
  for (const char* tenant : {"a", "b"}) SayAndShare(*first_, Of(tenant, Ask(kQuery)));
  EXPECT_TRUE(IsKept(Say(*second_, Of("a", Ask(kQuery)))));
  // The second has it, too, and the third not yet.
  const auto third = Another();
  ASSERT_TRUE(Flush(*first_, "a").ok());
  SayAndShare(*first_, Of("a", Ask(kQuery)));
  ASSERT_TRUE(Flush(*first_, "a").ok());
  SayAndShare(*third, Of("a", Ask(kQuery)));
  ASSERT_TRUE(Flush(*third, "a").ok());
  SayAndShare(*second_, Of("a", Ask(kQuery)));
  // What was answered since is shared again, and the other tenant has lost nothing.
  EXPECT_TRUE(IsKept(Say(*first_, Of("a", Ask(kQuery)))));
  for (RedisGateway* gateway : {first_.get(), second_.get(), third.get()}) {
    EXPECT_TRUE(IsKept(Say(*gateway, Of("b", Ask(kQuery)))));
  }
  ASSERT_TRUE(Flush(*second_, "").ok());
  for (const char* tenant : {"a", "b"}) {
    SayAndShare(*first_, Of(tenant, Ask(kQuery)));
    EXPECT_TRUE(IsKept(Say(*third, Of(tenant, Ask(kQuery)))));
  }
}

TEST_F(SharedAnswersTest, WhatAGatewayBelievesItGivesNoLongerThanThat) {
  Start();
  RedisGateway third(Redis());  // as it is by default
  AwaitGraph(third, 1);
  SayAndShare(third, Ask(kQuery));
  EXPECT_TRUE(IsKept(Say(third, Ask(kQuery))));
  ASSERT_TRUE(Flush(*first_, "").ok());
  EXPECT_TRUE(Eventually([&] { return !IsKept(Say(third, Ask(kQuery))); }));
  EXPECT_TRUE(Eventually([&] { return IsKept(Say(third, Ask(kQuery))); }));
}

TEST_F(SharedAnswersTest, NothingThatWasUnderWayAtAFlushIsKept) {
  Start();
  SayAndShare(*first_, Ask("stub text=marks"));  // there are marks already
  const v1::GenerateRequest slow = Ask("stub tokens=1 first_us=1000000 text=@;");
  const std::vector<std::string> stored = Stored();
  const int before = worker_.started();
  auto answer = std::async(std::launch::async, [&] { return Say(*second_, slow); });
  ASSERT_TRUE(Eventually([&] { return worker_.started() > before; }));
  ASSERT_TRUE(Flush(*first_, "").ok());
  answer.get();
  ASSERT_TRUE(Eventually([&] { return Stored() != stored; })) << "it is there, to no use";
  SayAndShare(*second_, slow);
  EXPECT_TRUE(IsKept(Say(*first_, slow)));
}

TEST_F(SharedAnswersTest, NobodyFollowsAQueryFromBeforeAnothersFlush) {
  Start();
  SayAndShare(*first_, Ask("stub text=marks"));
  const v1::GenerateRequest slow = Ask("stub tokens=1 first_us=1000000 text=@;");
  const int before = worker_.started();
  auto early = std::async(std::launch::async, [&] { return Say(*second_, slow); });
  ASSERT_TRUE(Eventually([&] { return worker_.started() > before; }));
  ASSERT_TRUE(Flush(*first_, "").ok());
  const Answer late = Say(*second_, slow);
  EXPECT_NE(late.text(), early.get().text());
  EXPECT_EQ(Say(*second_, slow).text(), late.text());
}

// Answers say when they were made: none from before a flush is given to a query that began after
// it.
TEST_F(SharedAnswersTest, NoOrderOfThingsBringsBackWhatWasFlushed) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  Start();
  const std::vector<std::string> tenants = {"a", "b"};
  std::mutex mutex;
  struct Flushed {
    int64_t began, ended;
    std::string tenant;
  };
  std::vector<Flushed> flushes;
  struct Given {
    int64_t began, made;
    std::string tenant;
  };
  std::vector<Given> given;
  std::set<int64_t> made_at;
  const auto now = [] { return absl::ToUnixMicros(absl::Now()); };
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937 random(seed + thread);
      for (int i = 0; i < 150; ++i) {
        RedisGateway& gateway = random() % 2 == 0 ? *first_ : *second_;
        const std::string tenant = tenants[random() % tenants.size()];
        const int64_t began = now();
        if (random() % 12 == 0) {
          const std::string flushed = random() % 4 == 0 ? "" : tenant;
          EXPECT_TRUE(Flush(gateway, flushed).ok());
          const std::lock_guard<std::mutex> lock(mutex);
          flushes.push_back({began, now(), flushed});
        } else if (thread == 0 && random() % 20 == 0) {
          Forget();
        } else {
          const std::string query =
              absl::StrCat("stub tokens=1 text=@ first_us=", 1000 * (random() % 4), ";");
          const Answer answer = Say(gateway, Of(tenant, Ask(query)));
          int64_t made = 0;
          EXPECT_TRUE(absl::SimpleAtoi(answer.text(), &made)) << answer.text();
          const std::lock_guard<std::mutex> lock(mutex);
          given.push_back({began, made, tenant});
          made_at.insert(made);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Given& answer : given) {
    for (const Flushed& flush : flushes) {
      if (!flush.tenant.empty() && flush.tenant != answer.tenant) continue;
      if (flush.ended < answer.began) {
        EXPECT_GE(answer.made, flush.began);
      }
    }
  }
  EXPECT_LT(made_at.size(), given.size()) << "nothing was kept";
  EXPECT_GT(first_->Metric(kHits) + second_->Metric(kHits), 0);
}

TEST_F(SharedAnswersTest, EqualQueriesAtTheSameTimeAskOnceAndRunOnce) {
  Start();
  const auto say_often = [&](const v1::GenerateRequest& request) {
    std::vector<std::future<Answer>> answers;
    for (int i = 0; i < 8; ++i) {
      answers.push_back(std::async(std::launch::async, [&] { return Say(*second_, request); }));
    }
    std::string text;
    for (auto& future : answers) {
      const Answer answer = future.get();
      if (text.empty()) text = answer.text();
      EXPECT_EQ(answer.text(), text);
    }
    return text;
  };
  const Answer answer = SayAndShare(*first_, Ask(kQuery));
  int started = worker_.started();
  EXPECT_EQ(say_often(Ask(kQuery)), answer.text());
  EXPECT_EQ(worker_.started(), started);
  started = worker_.started();
  say_often(Ask("stub tokens=1 first_us=1000000 text=@;"));
  EXPECT_EQ(worker_.started(), started + 1);
}

}  // namespace
}  // namespace octogate::gateway
