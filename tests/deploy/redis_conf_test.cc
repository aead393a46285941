// What deploy/ configures Redis servers with is accepted by them, and right for whom it is for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/redis/redis_store.h"
#include "common/redis/redis_value_cache.h"
#include "tests/common/redis/redis_server.h"

namespace octogate {
namespace {

using ::testing::HasSubstr;

absl::Time Soon() { return absl::Now() + absl::Seconds(60); }

// The file's settings for the command line, without those of where the server listens.
std::vector<std::string> SettingsOf(const std::string& name) {
  std::ifstream file(absl::StrCat(OCTOGATE_DEPLOY, "/", name));
  EXPECT_TRUE(file.good()) << name;
  std::vector<std::string> settings;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.front() == '#') continue;
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    if (words[0] == "bind" || words[0] == "port") continue;
    settings.push_back("--" + words[0]);
    for (size_t i = 1; i < words.size(); ++i) {
      settings.push_back(words[i] == "\"\"" ? "" : words[i]);
    }
  }
  return settings;
}

std::string Setting(RedisClient& client, std::string_view name) {
  const auto reply = client.Call({"CONFIG", "GET", name}, Soon());
  EXPECT_TRUE(reply.ok() && reply->elements.size() == 2) << reply.status();
  return reply.ok() && reply->elements.size() == 2 ? reply->elements[1].text : "";
}

TEST(RedisConfTest, AServerOfGatewaysKeepsWhatDoesNotExpire) {
  RedisServer server(SettingsOf("redis.conf"));
  const auto client = RedisClient::Create(server.options());
  EXPECT_EQ(CheckRedisKeepsValues(*client, Soon()), absl::OkStatus());
  EXPECT_EQ(Setting(*client, "appendonly"), "yes");
  EXPECT_EQ(Setting(*client, "maxmemory-policy"), "volatile-lru");
}

TEST(RedisConfTest, AServerOfPagesMakesRoomForNewOnes) {
  RedisServer server(SettingsOf("redis-pages.conf"));
  const auto client = RedisClient::Create(server.options());
  EXPECT_EQ(Setting(*client, "appendonly"), "no");
  EXPECT_EQ(Setting(*client, "save"), "");
  // Who gives it to gateways is warned.
  EXPECT_THAT(CheckRedisKeepsValues(*client, Soon()).ToString(), HasSubstr("may drop graphs"));
  ASSERT_TRUE(client->Call({"CONFIG", "SET", "maxmemory", "20mb"}, Soon()).ok());
  const auto cache = MakeRedisValueCache(client.get());
  const std::string page(size_t{1} << 20, 'x');
  for (int i = 0; i < 50; ++i) {
    const ValueCache::Entry entry{absl::StrCat("page", i), page, absl::Hours(1)};
    const absl::Status put = cache->PutMany({&entry, 1}, Soon())[0];
    ASSERT_TRUE(put.ok()) << put;
  }
  const std::vector<std::string> ends = {"page0", "page49"};
  const auto found = cache->GetMany(ends, Soon());
  EXPECT_TRUE(absl::IsNotFound(found[0].status())) << found[0].status();
  EXPECT_TRUE(found[1].ok()) << found[1].status();
}

}  // namespace
}  // namespace octogate
