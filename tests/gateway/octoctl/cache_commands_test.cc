// octoctl's commands for caches against gateways that run, by what people and scripts see.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "gateway/octoctl/commands.h"
#include "tests/gateway/redis_gateway.h"
#include "tests/gateway/session_graph.h"

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

}  // namespace
}  // namespace octogate::octoctl
