// A client of a real server that does what it is told.
#include "common/redis/redis_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/redis/redis_store.h"
#include "common/status.h"
#include "tests/common/redis/redis_server.h"

namespace octogate {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

absl::Time Soon() { return absl::Now() + absl::Seconds(60); }

TEST(RedisUrlTest, IsReadInParts) {
  const auto url = [](std::string_view text) { return ParseRedisUrl(text).value(); };
  EXPECT_EQ(url("redis://cache").host, "cache");
  EXPECT_EQ(url("redis://cache").port, 6379);
  EXPECT_EQ(url("redis://cache:7000/3").port, 7000);
  EXPECT_EQ(url("redis://cache:7000/3").database, 3);
  EXPECT_EQ(url("redis://gateway@cache/").username, "gateway");
  EXPECT_EQ(url("redis://[::1]:7000").host, "::1");
  EXPECT_EQ(url("redis://[::1]:7000").port, 7000);
  EXPECT_FALSE(url("redis://cache:7000").cluster);
  const RedisOptions cluster = url("redis+cluster://gateway@one,two:7000,[::1]:7001");
  EXPECT_TRUE(cluster.cluster);
  EXPECT_EQ(cluster.username, "gateway");
  EXPECT_EQ(cluster.host, "one");
  EXPECT_EQ(cluster.port, 6379);
  ASSERT_EQ(cluster.more_nodes.size(), 2U);
  EXPECT_EQ(cluster.more_nodes[0].ToString(), "two:7000");
  EXPECT_EQ(cluster.more_nodes[1].ToString(), "[::1]:7001");
  EXPECT_EQ(url("unix:/run/redis.sock").unix_socket, "/run/redis.sock");
}

TEST(RedisUrlTest, SaysWhatIsWrong) {
  for (const char* text :
       {"", "cache:6379", "redis://", "redis://:6379", "redis://cache:0", "redis://cache:65536",
        "redis://cache/x", "redis://cache/-1", "redis://[::1", "redis://[::1]7000",
        "unix:", "redis+cluster://", "redis+cluster://a,", "redis+cluster://a/1", "redis://a,b"}) {
    EXPECT_EQ(ParseRedisUrl(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  EXPECT_THAT(ParseRedisUrl("rediss://cache").status().ToString(), HasSubstr("stunnel"));
  const absl::Status status = ParseRedisUrl("redis://user:secret@cache").status();
  EXPECT_THAT(status.ToString(), HasSubstr("OCTOGATE_REDIS_PASSWORD"));
  EXPECT_THAT(status.ToString(), Not(HasSubstr("secret")));
}

TEST(RedisClientTest, CarriesAnyBytesThereAndBack) {
  const RedisServer server;
  const auto client = RedisClient::Create(server.options());
  std::mt19937 random(std::random_device{}());
  for (const size_t bytes : {0, 1, 100, 70'000, 5'000'000}) {
    std::string value(bytes, '\0');
    for (char& byte : value) byte = static_cast<char>(random());
    ASSERT_TRUE(client->Call({"SET", "a\r\n\0b", value}, Soon()).ok());
    const auto reply = client->Call({"GET", "a\r\n\0b"}, Soon());
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->text, value);
  }
  EXPECT_EQ(client->Call({"GET", "none"}, Soon())->kind, RedisReply::Kind::kNil);
  EXPECT_EQ(client->Call({"INCR", "n"}, Soon())->integer, 1);
  EXPECT_EQ(client->Call({"MGET", "n", "none"}, Soon())->elements.size(), 2U);
  EXPECT_EQ(client->Call({"NONSENSE"}, Soon()).status().code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(client->Call({"PING"}, Soon()).ok()) << "an error is no end of the connection";
}

TEST(RedisClientTest, GivesEachOfManyThreadsItsOwnAnswers) {
  const RedisServer server;
  const auto client = RedisClient::Create(server.options());
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&client, t] {
      for (int i = 0; i < 200; ++i) {
        const std::string text = absl::StrCat(t, "/", i);
        const auto reply = client->Call({"ECHO", text}, Soon());
        ASSERT_TRUE(reply.ok()) << reply.status();
        ASSERT_EQ(reply->text, text);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(client->stats().calls, 1600U);
  EXPECT_EQ(client->stats().failures, 0U);
  EXPECT_EQ(client->stats().pending_bytes, 0U);
}

// Whoever calls alone reads the answers, those of others included, until it gives up.
TEST(RedisClientTest, ACallThatGivesUpTakesNoOtherWithIt) {
  const RedisServer server;
  const auto client = RedisClient::Create(server.options());
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(client->Call({"PING"}, Soon()).ok());
    std::atomic<bool> given_up{false};
    std::thread waits([&] {
      EXPECT_EQ(client->Call({"BLPOP", "none", "0"}, absl::Now() + absl::Milliseconds(200))
                    .status()
                    .code(),
                absl::StatusCode::kDeadlineExceeded);
      given_up = true;
    });
    // Over the other connection: before, while and after the first one waits.
    for (int left = 20; left > 0; left -= given_up ? 1 : 0) {
      const auto reply = client->Call({"ECHO", "text"}, Soon());
      EXPECT_TRUE(reply.ok()) << reply.status();
    }
    waits.join();
    EXPECT_TRUE(client->Call({"LPUSH", "none", "answers it"}, Soon()).ok());
  }
  EXPECT_EQ(client->stats().connections, 2U);
  EXPECT_EQ(client->stats().losses, 0U);
}

TEST(RedisClientTest, AnswersManyCommandsInTheirOrder) {
  const RedisServer server;
  RedisOptions options = server.options();
  options.max_pending_bytes = 10'000;  // far less than all of them together
  const auto client = RedisClient::Create(options);
  std::vector<std::string> texts;
  for (int i = 0; i < 2000; ++i) texts.push_back(absl::StrCat(i, std::string(100, 'x')));
  std::vector<RedisClient::Command> commands;
  for (const std::string& text : texts) commands.push_back({"ECHO", text});
  commands.push_back({"NONSENSE"});
  const auto replies = client->CallMany(commands, Soon());
  ASSERT_EQ(replies.size(), texts.size() + 1);
  for (size_t i = 0; i < texts.size(); ++i) {
    ASSERT_TRUE(replies[i].ok()) << replies[i].status();
    ASSERT_EQ(replies[i]->text, texts[i]);
  }
  EXPECT_EQ(replies.back().status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(client->stats().pending_bytes, 0U);
}

// Of several threads at once, of which each may be the one that sends and reads for the others.
TEST(RedisClientTest, MakesCommandsOneByOneAndTakesEachAnswerInTurn) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  const RedisServer server;
  RedisOptions options = server.options();
  // Of one by itself also where all of them together are more than what may wait.
  const int count = static_cast<int>(1 + 3 * (seed % 2));
  if (count == 1) options.max_pending_bytes = 500'000;
  const auto client = RedisClient::Create(options);
  std::vector<std::thread> threads;
  for (int t = 0; t < count; ++t) {
    threads.emplace_back([&client, t, seed] {
      std::mt19937_64 random(seed + static_cast<uint64_t>(t));
      for (int round = 0; round < 5; ++round) {
        std::vector<std::string> texts;
        for (size_t i = 0, size = random() % 40; i < size; ++i) {
          texts.emplace_back(random() % (random() % 4 == 0 ? 300'000 : 3'000),
                             static_cast<char>('a' + (random() % 26)));
        }
        RedisClient::Transaction commands;
        size_t made = 0;
        size_t taken = 0;
        client->TransactEach(
            texts.size(),
            [&](size_t i) {
              EXPECT_EQ(i, made++);
              commands = {{"ECHO", texts[i]}};
              if (i % 3 == 0) commands.push_back({"ECHO", "its end"});
              return std::span<const RedisClient::Command>(commands);
            },
            [&](size_t i, const absl::StatusOr<RedisReply>& reply) {
              EXPECT_EQ(i, taken++);
              ASSERT_TRUE(reply.ok()) << reply.status();
              if (i % 3 != 0) {
                EXPECT_EQ(reply->text, texts[i]);
                return;
              }
              ASSERT_EQ(reply->elements.size(), 2U);
              EXPECT_EQ(reply->elements[0].text, texts[i]);
              EXPECT_EQ(reply->elements[1].text, "its end");
            },
            Soon());
        EXPECT_EQ(made, texts.size());
        EXPECT_EQ(taken, texts.size());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(client->stats().failures, 0U);
  EXPECT_EQ(client->stats().pending_bytes, 0U);
}

TEST(RedisClientTest, NamesItselfToServersThatAsk) {
  const RedisServer server({"--requirepass", "right"});
  RedisOptions options = server.options();
  const auto call = [&options] {
    return RedisClient::Create(options)->Call({"PING"}, Soon()).status();
  };
  EXPECT_THAT(call().ToString(), HasSubstr("NOAUTH"));
  options.password = "wrong";
  EXPECT_THAT(call().ToString(), HasSubstr("WRONGPASS"));
  EXPECT_THAT(call().ToString(), Not(HasSubstr("wrong;")));
  options.password = "right";
  EXPECT_TRUE(call().ok()) << call();
  options.username = "default";
  options.database = 5;
  EXPECT_TRUE(call().ok()) << call();
}

TEST(RedisClientTest, BoundsWhatWaits) {
  const RedisServer server;
  RedisOptions options = server.options();
  options.max_pending_bytes = 1000;
  const auto client = RedisClient::Create(options);
  const absl::Status refused = client->Call({"SET", "k", std::string(1000, 'v')}, Soon()).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_GT(RetryAfter(refused), absl::ZeroDuration());
  EXPECT_TRUE(client->Call({"SET", "k", std::string(500, 'v')}, Soon()).ok());
}

TEST(RedisClientTest, BoundsWhatIsAnswered) {
  const RedisServer server;
  ASSERT_TRUE(RedisClient::Create(server.options())
                  ->Call({"SET", "k", std::string(10'000'000, 'v')}, Soon())
                  .ok());
  RedisOptions options = server.options();
  options.max_reply_bytes = 1'000'000;
  const auto client = RedisClient::Create(options);
  EXPECT_EQ(client->Call({"GET", "k"}, Soon()).status().code(), absl::StatusCode::kUnavailable);
}

TEST(RedisStoreTest, NoticesWhatOthersPutUnderItsKeys) {
  const RedisServer server;
  const auto client = RedisClient::Create(server.options());
  const auto store = MakeRedisStore(client.get());
  const auto put = [&](std::string_view key) {
    return store->Put(key, "value", absl::InfiniteFuture(), Soon());
  };
  ASSERT_TRUE(put("part/key").ok());
  ASSERT_TRUE(put("part/other").ok());
  const std::string raw = "octogate:{/part}:/key";
  const std::string good = client->Call({"GET", raw}, Soon())->text;
  ASSERT_THAT(good, HasSubstr("value"));
  const auto code_of = [&](const std::string& bytes) {
    EXPECT_TRUE(client->Call({"SET", raw, bytes}, Soon()).ok());
    return store->Get("part/key", Soon()).status().code();
  };
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    EXPECT_EQ(code_of(bad), absl::StatusCode::kDataLoss) << i;
    EXPECT_EQ(code_of(good.substr(0, i)), absl::StatusCode::kDataLoss) << i;
  }
  EXPECT_EQ(code_of(good + "x"), absl::StatusCode::kDataLoss);
  const std::string other = client->Call({"GET", "octogate:{/part}:/other"}, Soon())->text;
  EXPECT_EQ(code_of(other), absl::StatusCode::kDataLoss) << "another key's value";
  EXPECT_EQ(code_of(good), absl::StatusCode::kOk);
}

// More of a part than are written together, by their number and by their bytes.
TEST(RedisStoreTest, PutsManyValuesOfFewParts) {
  const RedisServer server;
  const auto client = RedisClient::Create(server.options());
  const auto store = MakeRedisStore(client.get());
  std::vector<std::string> keys;
  std::vector<std::string> values;
  for (size_t i = 0; i < 300; ++i) {
    keys.push_back(absl::StrCat("part", i % 2, "/", i));
    values.push_back(absl::StrCat(i, std::string(i < 200 ? i : 50'000, 'v')));
  }
  std::vector<Store::Entry> entries;
  for (size_t i = 0; i < keys.size(); ++i) entries.push_back({keys[i], values[i]});
  for (const absl::Status& put : store->PutMany(entries, Soon())) ASSERT_TRUE(put.ok()) << put;
  const std::vector<std::string_view> asked(keys.begin(), keys.end());
  const auto got = store->GetMany(asked, Soon());
  for (size_t i = 0; i < keys.size(); ++i) {
    ASSERT_TRUE(got[i].ok()) << got[i].status();
    EXPECT_EQ(*got[i], values[i]);
  }
  EXPECT_EQ(store->List("part0/", "", 1000, Soon())->size(), 150U);
  EXPECT_EQ(store->List("part", "", 1000, Soon())->size(), 300U);
}

TEST(RedisStoreTest, SaysWhenTheServerWouldLoseGraphs) {
  const auto check = [](std::vector<std::string> settings) {
    const RedisServer server(std::move(settings));
    return CheckRedisKeepsValues(*RedisClient::Create(server.options()), Soon()).ToString();
  };
  EXPECT_EQ(check({"--appendonly", "yes"}), "OK");
  EXPECT_THAT(check({"--appendonly", "no", "--save", ""}), HasSubstr("appendonly yes"));
  EXPECT_THAT(check({"--maxmemory-policy", "allkeys-lru"}), HasSubstr("volatile-lru"));
  EXPECT_EQ(check({"--maxmemory-policy", "volatile-lru"}), "OK");
}

}  // namespace
}  // namespace octogate
