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
}

// Replicas of a model of which the second knows no flush until it is told to.
class FlushCommandTest : public testing::Test {
 protected:
  FlushCommandTest() {
    v1::WorkerFlushCacheResponse flushed;
    flushed.set_pages(12);
    flushed.set_pages_in_use(3);
    flushed.set_shared(true);
    workers_[0].SetFlushed(flushed);
    const grpc::Status applied = gateway_.Apply(absl::StrCat(
        "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: test}\nspec:\n  entry: talk\n"
        "  models: [{name: stub, workers: [\"",
        workers_[0].address(), "\", \"", workers_[1].address(),
        "\"]}]\n  nodes: [{name: talk, model: {model: stub}}]\n"));
    EXPECT_TRUE(applied.ok()) << applied.error_message();
  }

  ExitStatus Flush(CacheOptions options, Format format) {
    Connection connection(absl::StrCat("127.0.0.1:", gateway_.server().port()),
                          /*timeout_seconds=*/60);
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const ExitStatus status = FlushCache(connection, options, format);
    out_ = testing::internal::GetCapturedStdout();
    error_ = testing::internal::GetCapturedStderr();
    return status;
  }

  gateway::StubWorker workers_[2];
  gateway::TestGateway gateway_;
  std::string out_;
  std::string error_;
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
