// octoctl's commands for caches against gateways that run, by what people and scripts see.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "gateway/octoctl/commands.h"
#include "tests/gateway/redis_gateway.h"
#include "tests/gateway/session_graph.h"
#include "tests/gateway/stub_worker.h"

namespace octogate::octoctl {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string Stats(gateway::TestGateway& gateway, Format format) {
  Connection connection(absl::StrCat("127.0.0.1:", gateway.server().port()),
                        /*timeout_seconds=*/60);
  testing::internal::CaptureStdout();
  EXPECT_EQ(CacheStats(connection, {}, format), kOk);
  return testing::internal::GetCapturedStdout();
}

TEST(CacheCommandsTest, StatsSayWhetherTheStoreAnswers) {
  RedisServer redis;
  gateway::RedisGateway gateway(redis.options());
  ASSERT_TRUE(gateway.Apply(gateway::kSessionGraph).ok());
  EXPECT_THAT(Stats(gateway, Format::kTable), Not(HasSubstr("store")));
  EXPECT_THAT(Stats(gateway, Format::kJson), HasSubstr("\"storeReachable\": true"));
  redis.Kill();
  EXPECT_TRUE(gateway::Eventually([&] {
    return Stats(gateway, Format::kTable).find("the store does not answer") != std::string::npos;
  }));
  EXPECT_THAT(Stats(gateway, Format::kJson), HasSubstr("\"storeReachable\": false"));
  redis.Start();
  EXPECT_TRUE(gateway::Eventually(
      [&] { return Stats(gateway, Format::kTable).find("store") == std::string::npos; }));
  gateway::TestGateway alone;
  EXPECT_THAT(Stats(alone, Format::kJson), Not(HasSubstr("storeReachable")));
  // Before the first graph there is no model to ask for.
  grpc::ClientContext context;
  v1::GetCacheStatsRequest request;
  request.set_model("m");
  v1::GetCacheStatsResponse response;
  EXPECT_EQ(alone.admin()->GetCacheStats(&context, request, &response).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
}

// Two replicas of a model.
class ReplicasCommandTest : public testing::Test {
 protected:
  ReplicasCommandTest() {
    v1::WorkerInfoResponse info;
    info.set_pages_total(100);
    info.set_pages_used(3);
    info.set_pages_idle(4);
    info.set_prefix_query_tokens(640);
    info.set_prefix_hit_tokens(480);
    info.mutable_shared_pages()->set_lookup_tokens(160);
    info.mutable_shared_pages()->set_hit_tokens(32);
    info.mutable_shared_pages()->set_abandoned(2);
    info.mutable_speculation()->set_drafted_tokens(50);
    info.mutable_speculation()->set_accepted_tokens(20);
    info.mutable_shared_drafts()->set_publications(6);
    info.mutable_shared_drafts()->set_refused(1);
    info.set_draft_bytes(2048);
    for (gateway::StubWorker& worker : workers_) worker.SetInfo(info);
    const grpc::Status applied = gateway_.Apply(absl::StrCat(
        "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: test}\nspec:\n  entry: talk\n"
        "  models: [{name: stub, workers: [\"",
        workers_[0].address(), "\", \"", workers_[1].address(),
        "\"]}]\n  nodes: [{name: talk, model: {model: stub}}]\n"));
    EXPECT_TRUE(applied.ok()) << applied.error_message();
  }

  ExitStatus Run(ExitStatus (*command)(Connection&, const CacheOptions&, Format),
                 const CacheOptions& options, Format format) {
    Connection connection(absl::StrCat("127.0.0.1:", gateway_.server().port()),
                          /*timeout_seconds=*/60);
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const ExitStatus status = command(connection, options, format);
    out_ = testing::internal::GetCapturedStdout();
    error_ = testing::internal::GetCapturedStderr();
    return status;
  }

  gateway::StubWorker workers_[2];
  gateway::TestGateway gateway_;
  std::string out_;
  std::string error_;
};

TEST_F(ReplicasCommandTest, StatsAreOfAllReplicasOfTheModelAskedFor) {
  // Until both have told.
  EXPECT_TRUE(gateway::Eventually([&] {
    EXPECT_EQ(Run(CacheStats, {.model = "stub"}, Format::kTable), kOk);
    return out_.find("14/200") != std::string::npos;
  }));
  EXPECT_THAT(out_, testing::MatchesRegex(
                        "CACHE +MODEL +ENTRIES +BYTES +LOOKUPS +HITS +RATE +WRITES +EVICTIONS "
                        "+FAILURES\n"
                        "drafts +stub +- +4.0 KiB +100 tokens +40 tokens +40.0 % +12 +- +2\n"
                        "pages +stub +- +- +320 tokens +64 tokens +20.0 % +- +- +4\n"
                        "prefixes +stub +14/200 +- +1280 tokens +960 tokens +75.0 % +- +- +0\n"));
  EXPECT_EQ(Run(CacheStats, {}, Format::kName), kOk);
  EXPECT_EQ(out_, "answers\ndecisions\ndrafts\npages\nprefixes\n");
  EXPECT_EQ(Run(CacheStats, {.model = "other"}, Format::kTable), kNotFound);
  EXPECT_EQ(out_, "");
  EXPECT_THAT(error_, HasSubstr("other"));
}

TEST_F(ReplicasCommandTest, StatsSayWhatIsNotCountedByTenant) {
  EXPECT_TRUE(gateway::Eventually([&] {
    EXPECT_EQ(Run(CacheStats, {.tenant = "acme", .model = "stub"}, Format::kTable), kOk);
    return out_.find("14/200") != std::string::npos;
  }));
  EXPECT_THAT(out_, HasSubstr("\ndrafts, pages, prefixes are not counted by tenant"));
  EXPECT_THAT(out_, Not(HasSubstr("acme")));
  EXPECT_EQ(Run(CacheStats, {.tenant = "acme"}, Format::kTable), kOk);
  EXPECT_THAT(out_, HasSubstr("\nentries and bytes of answers and decisions are of tenant acme"));
  EXPECT_THAT(out_, HasSubstr("\ndrafts, pages, prefixes are not counted by tenant"));
}

TEST_F(ReplicasCommandTest, ExplainsWhatReplicasHaveOfThePrompt) {
  v1::WorkerExplainCacheResponse explained;
  explained.set_prompt_tokens(64);
  explained.set_cached_tokens(32);
  explained.mutable_shared()->set_lookup_tokens(16);
  explained.mutable_shared()->set_hit_tokens(16);
  explained.mutable_shared()->set_fetch_seconds(0.002);
  explained.mutable_shared()->set_compute_seconds(0.5);
  explained.mutable_shared()->set_choice(v1::PAGE_CHOICE_MEET);
  workers_[0].SetExplained(explained);
  const CacheOptions options = {.tenant = "acme", .query = "hello", .node = "talk"};
  EXPECT_EQ(Run(ExplainCache, options, Format::kTable), kOk);
  const std::string first = workers_[0].address();
  EXPECT_THAT(out_,
              HasSubstr("prefixes of stub at " + first + ": 32 of 64 tokens are in its memory; "));
  EXPECT_THAT(out_, HasSubstr("pages of stub at " + first +
                              ": the store has 16 of 16 tokens that are not in memory; fetching "
                              "them is expected to take 2ms, computing them takes 500ms: they "
                              "are computed from the first on while others come"));
  EXPECT_THAT(out_, HasSubstr("miss  prefixes of stub at " + workers_[1].address()));
  EXPECT_THAT(out_, HasSubstr("has not said"));
  EXPECT_EQ(workers_[0].last_question().cache_salt(), "acme");

  EXPECT_EQ(Run(ExplainCache, options, Format::kJson), kOk);
  EXPECT_THAT(out_, HasSubstr("\"cachedTokens\": \"32\""));
  EXPECT_THAT(out_, HasSubstr("\"promptTokens\": \"64\""));
  EXPECT_THAT(out_, HasSubstr("\"hitTokens\": \"16\""));
  EXPECT_THAT(out_, HasSubstr("\"choice\": \"PAGE_CHOICE_MEET\""));
  EXPECT_EQ(Run(ExplainCache, {.query = "hello", .node = "none"}, Format::kTable), kNotFound);
}

// Of the replicas the second knows no flush until it is told to.
class FlushCommandTest : public ReplicasCommandTest {
 protected:
  FlushCommandTest() {
    v1::WorkerFlushCacheResponse flushed;
    flushed.set_pages(12);
    flushed.set_pages_in_use(3);
    flushed.set_shared(true);
    workers_[0].SetFlushed(flushed);
  }

  ExitStatus Flush(const CacheOptions& options, Format format) {
    return Run(FlushCache, options, format);
  }
};

TEST_F(FlushCommandTest, SaysWhatBecameOfItAtEachReplica) {
  EXPECT_EQ(Flush({.model = "stub"}, Format::kTable), kFailed);
  EXPECT_THAT(out_, testing::MatchesRegex("REPLICA +PAGES +IN USE +SHARED +RESULT\n" +
                                          workers_[0].address() + " +12 +3 +yes +flushed\n" +
                                          workers_[1].address() + " +- +- +- +replica .*\n"));
  EXPECT_THAT(error_, HasSubstr("UNIMPLEMENTED: 1 of 2 replicas have flushed"));
  EXPECT_FALSE(workers_[0].last_flush().has_cache_salt());
  EXPECT_EQ(workers_[0].last_flush().id(), workers_[1].last_flush().id());
  const std::string id = workers_[0].last_flush().id();

  EXPECT_EQ(Flush({.model = "stub"}, Format::kName), kFailed);
  EXPECT_EQ(out_, workers_[0].address() + "\n");
  EXPECT_NE(workers_[0].last_flush().id(), id) << "another flush";

  EXPECT_EQ(Flush({.model = "stub"}, Format::kJson), kFailed);
  EXPECT_THAT(out_, HasSubstr("\"replica\": \"" + workers_[0].address() + "\""));
  EXPECT_THAT(out_, HasSubstr("\"pages\": \"12\""));
  EXPECT_THAT(out_, HasSubstr("\"pagesInUse\": \"3\""));
  EXPECT_THAT(out_, HasSubstr("\"code\": 12"));
  EXPECT_EQ(out_.front(), '{') << "nothing but JSON";

  workers_[1].SetFlushed({});
  EXPECT_EQ(Flush({.tenant = "acme", .model = "stub"}, Format::kTable), kOk);
  EXPECT_THAT(out_, HasSubstr(" 0 "));
  EXPECT_THAT(out_, HasSubstr(" no "));
  EXPECT_EQ(error_, "");
  EXPECT_EQ(workers_[1].last_flush().cache_salt(), "acme");
}

TEST_F(FlushCommandTest, DecisionsAndAnswersAreNotAModels) {
  EXPECT_EQ(Flush({.model = "other"}, Format::kTable), kNotFound);
  EXPECT_EQ(Flush({.model = "stub", .kinds = {"answers"}}, Format::kTable), kInvalid);
  EXPECT_EQ(Flush({.tenant = "acme"}, Format::kTable), kOk);
  EXPECT_THAT(out_, HasSubstr("answers of tenant acme flushed"));
  EXPECT_EQ(workers_[0].last_flush().id(), "") << "no model was named";
}

}  // namespace
}  // namespace octogate::octoctl
