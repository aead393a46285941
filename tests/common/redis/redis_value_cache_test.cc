// Values in a real server, as far as those who use them do not test it.
#include "common/redis/redis_value_cache.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "tests/common/redis/redis_server.h"

namespace octogate {
namespace {

TEST(RedisValueCacheTest, WhatIsPutIfAbsentStandsForNothingThatIsThere) {
  RedisServer server{{"--save", ""}};
  const auto client = RedisClient::Create(server.options());
  const auto cache = MakeRedisValueCache(client.get());
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  const auto put = [&](const std::string& key, const std::string& value, bool if_absent) {
    const ValueCache::Entry entry{key, value, absl::Hours(1), if_absent};
    return cache->PutMany({&entry, 1}, deadline).front();
  };
  const auto get = [&](const std::string& key) {
    return cache->GetMany({&key, 1}, deadline).front().value_or("none");
  };
  EXPECT_TRUE(put("a", "one", /*if_absent=*/true).ok());
  EXPECT_EQ(get("a"), "one");
  EXPECT_TRUE(put("a", "two", /*if_absent=*/true).ok());
  EXPECT_EQ(get("a"), "one");
  EXPECT_TRUE(put("a", "three", /*if_absent=*/false).ok());
  EXPECT_EQ(get("a"), "three");
  const auto left = client->Call({"PTTL", "octogate:value:a"}, deadline);
  ASSERT_TRUE(left.ok());
  EXPECT_GT(left->integer, 0);
}

}  // namespace
}  // namespace octogate
