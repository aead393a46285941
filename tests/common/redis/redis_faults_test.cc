// A store whose server is killed, frozen, full or lying: calls end, say so, and find it again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/redis/redis_record_streams.h"
#include "common/redis/redis_store.h"
#include "common/redis/redis_value_cache.h"
#include "common/status.h"
#include "tests/common/redis/liar.h"
#include "tests/common/redis/redis_server.h"
#include "tests/common/redis/scripted_server.h"

namespace octogate {
namespace {

absl::Time Soon() { return absl::Now() + absl::Seconds(60); }

absl::Status Put(Store& store, std::string_view value) {
  return store.Put("graph/1", value, absl::InfiniteFuture(), Soon());
}

// Until it succeeds, as whoever polls would.
absl::Status Eventually(const std::function<absl::Status()>& call) {
  const absl::Time give_up = absl::Now() + absl::Seconds(60);
  absl::Status status;
  while (!(status = call()).ok() && absl::Now() < give_up) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  return status;
}

TEST(RedisFaultsTest, AKilledServerIsFoundAgainWithWhatItKept) {
  RedisServer server({"--appendonly", "yes", "--appendfsync", "always"});
  const auto client = RedisClient::Create(server.options());
  const auto store = MakeRedisStore(client.get());
  ASSERT_TRUE(Put(*store, "kept").ok());
  server.Kill();
  const absl::Status gone = Eventually([&] {
    const absl::Status status = store->Get("graph/1", Soon()).status();
    return absl::IsUnavailable(status) ? absl::OkStatus() : absl::UnknownError(status.ToString());
  });
  EXPECT_TRUE(gone.ok()) << gone;
  server.Start();
  EXPECT_TRUE(Eventually([&] { return store->Get("graph/1", Soon()).status(); }).ok());
  EXPECT_EQ(store->Get("graph/1", Soon()).value(), "kept");
}

TEST(RedisFaultsTest, AServerThatRestartsEmptyHasNothing) {
  RedisServer server({"--save", ""});
  const auto client = RedisClient::Create(server.options());
  const auto store = MakeRedisStore(client.get());
  ASSERT_TRUE(Put(*store, "lost").ok());
  server.Kill();
  server.Start();
  const absl::Status empty = Eventually([&] {
    const absl::Status status = store->Get("graph/1", Soon()).status();
    return absl::IsNotFound(status) ? absl::OkStatus() : absl::UnknownError(status.ToString());
  });
  EXPECT_TRUE(empty.ok()) << empty;
  EXPECT_GT(client->stats().losses, 0U);
  EXPECT_TRUE(store->List("graph/", "", 10, Soon())->empty());
  EXPECT_TRUE(Put(*store, "again").ok());
}

// Each command of a batch is answered once, whatever happens while they are made.
TEST(RedisFaultsTest, AServerThatIsKilledOrFrozenMidwayFailsTheRestOfABatch) {
  for (const bool killed : {true, false}) {
    RedisServer server;
    RedisOptions options = server.options();
    options.timeouts = Patient(absl::Milliseconds(300));
    const auto client = RedisClient::Create(options);
    ASSERT_TRUE(client->Call({"PING"}, Soon()).ok());
    const std::string value(200'000, 'v');
    const RedisClient::Command command{"ECHO", value};
    std::vector<absl::Status> taken;
    client->TransactEach(
        20,
        [&](size_t i) {
          if (i == 10) killed ? server.Kill() : server.Freeze();
          return std::span<const RedisClient::Command>(&command, 1);
        },
        [&](size_t i, const absl::StatusOr<RedisReply>& reply) {
          EXPECT_EQ(i, taken.size());
          taken.push_back(reply.status());
        },
        Soon());
    ASSERT_EQ(taken.size(), 20U);
    EXPECT_TRUE(absl::IsUnavailable(taken.back())) << taken.back();
    EXPECT_EQ(client->stats().pending_bytes, 0U);
    killed ? server.Start() : server.Thaw();
    EXPECT_TRUE(Eventually([&] { return client->Call({"PING"}, Soon()).status(); }).ok());
  }
}

TEST(RedisFaultsTest, ABatchEndsAtItsDeadline) {
  const RedisServer server;
  const auto client = RedisClient::Create(server.options());
  ASSERT_TRUE(client->Call({"PING"}, Soon()).ok());
  const std::vector<RedisClient::Command> commands{{"PING"}, {"BLPOP", "none", "0"}, {"PING"}};
  std::vector<absl::Status> taken;
  client->TransactEach(
      3, [&commands](size_t i) { return std::span<const RedisClient::Command>(&commands[i], 1); },
      [&](size_t, const absl::StatusOr<RedisReply>& reply) { taken.push_back(reply.status()); },
      absl::Now() + absl::Milliseconds(200));
  ASSERT_EQ(taken.size(), 3U);
  EXPECT_TRUE(absl::IsDeadlineExceeded(taken[1])) << taken[1];
  // What it has left under way is no other's concern.
  EXPECT_TRUE(client->Call({"LPUSH", "none", "answers it"}, Soon()).ok());
}

// A store that has answered, and whose server has been frozen since.
struct FrozenStore {
  FrozenStore() {
    RedisOptions options = server.options();
    options.timeouts = Patient(absl::Milliseconds(300));
    client = RedisClient::Create(options);
    store = MakeRedisStore(client.get());
    EXPECT_TRUE(Eventually([&] { return Put(*store, "there"); }).ok());
    server.Freeze();
  }
  RedisServer server;
  std::unique_ptr<RedisClient> client;
  std::unique_ptr<Store> store;
};

TEST(RedisFaultsTest, AFrozenServerCostsOneTimeoutAndIsFoundAgain) {
  FrozenStore frozen;
  EXPECT_EQ(frozen.store->Get("graph/1", Soon()).status().code(), absl::StatusCode::kUnavailable);
  // While it is frozen, nobody waits: each call fails by what the client knows already.
  for (int i = 0; i < 100; ++i) {
    EXPECT_THAT(frozen.store->Get("graph/1", Soon()).status().ToString(),
                testing::HasSubstr("does not answer"));
  }
  EXPECT_FALSE(frozen.client->stats().reachable);
  frozen.server.Thaw();
  EXPECT_TRUE(Eventually([&] { return frozen.store->Get("graph/1", Soon()).status(); }).ok());
  EXPECT_TRUE(frozen.client->stats().reachable);
}

// That others ask, and that the system takes what they send, is no sign of life of the server.
TEST(RedisFaultsTest, AFrozenServerIsNoticedWhileOthersGoOnAskingIt) {
  FrozenStore frozen;
  // Nobody waits as long as it takes to notice.
  const auto ask = [&] {
    for (int i = 0; i < 200 && frozen.client->stats().reachable; ++i) {
      frozen.store->Get("graph/1", absl::Now() + absl::Milliseconds(20)).status().IgnoreError();
    }
  };
  std::thread other(ask);
  ask();
  other.join();
  EXPECT_FALSE(frozen.client->stats().reachable);
  frozen.server.Thaw();
  EXPECT_TRUE(Eventually([&] { return frozen.store->Get("graph/1", Soon()).status(); }).ok());
}

// A server that is frozen when it has answered: what becomes of a call with `its` timeout for calls
// of that kind, and with `others` for all others.
absl::Status AskFrozen(RedisServer& server, RedisCallKind kind, absl::Duration its,
                       absl::Duration others,
                       const std::function<absl::Status(RedisClient&)>& call) {
  RedisOptions options = server.options();
  options.timeouts = Patient(others);
  (kind == RedisCallKind::kSmall  ? options.timeouts.small
   : kind == RedisCallKind::kBulk ? options.timeouts.bulk
                                  : options.timeouts.admin) = its;
  const auto client = RedisClient::Create(options);
  const auto ping = [&] { return client->Call({"PING"}, {Soon(), kind}).status(); };
  EXPECT_TRUE(Eventually(ping).ok());
  server.Freeze();
  absl::Status status = call(*client);
  server.Thaw();
  return status;
}

TEST(RedisFaultsTest, AFrozenServerCostsACallTheTimeoutOfItsKindAndNoOther) {
  RedisServer server;
  struct Case {
    const char* what;
    RedisCallKind kind;
    std::function<absl::Status(RedisClient&, absl::Time deadline)> call;
  };
  const Case cases[] = {
      {"a value", RedisCallKind::kSmall,
       [](RedisClient& client, absl::Time deadline) {
         return MakeRedisStore(&client)->Get("graph/1", deadline).status();
       }},
      {"writing a value", RedisCallKind::kSmall,
       [](RedisClient& client, absl::Time deadline) {
         return MakeRedisStore(&client)->Put("graph/1", "", absl::InfiniteFuture(), deadline);
       }},
      {"a cached value", RedisCallKind::kSmall,
       [](RedisClient& client, absl::Time deadline) {
         const std::string key = "key";
         return MakeRedisValueCache(&client)->GetMany({&key, 1}, deadline)[0].status();
       }},
      {"values", RedisCallKind::kBulk,
       [](RedisClient& client, absl::Time deadline) {
         const std::string_view keys[] = {"graph/1", "graph/2"};
         return MakeRedisStore(&client)->GetMany(keys, deadline)[1].status();
       }},
      {"writing values", RedisCallKind::kBulk,
       [](RedisClient& client, absl::Time deadline) {
         const Store::Entry entries[] = {{"graph/1", ""}, {"graph/2", ""}};
         return MakeRedisStore(&client)->PutMany(entries, deadline)[1];
       }},
      {"records", RedisCallKind::kBulk,
       [](RedisClient& client, absl::Time deadline) {
         return MakeRedisRecordStreams(&client)->Newest(1, 1, deadline).status();
       }},
      {"settings", RedisCallKind::kAdmin,
       [](RedisClient& client, absl::Time deadline) {
         return CheckRedisKeepsValues(client, deadline);
       }},
  };
  const absl::Duration longer = absl::Hours(1);
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    const absl::Status own =
        AskFrozen(server, one.kind, absl::Milliseconds(100), longer,
                  [&](RedisClient& client) { return one.call(client, Soon()); });
    EXPECT_EQ(own.code(), absl::StatusCode::kUnavailable) << own;
    EXPECT_THAT(own.ToString(), testing::HasSubstr("does not answer"));
    const absl::Status no_other =
        AskFrozen(server, one.kind, longer, absl::Milliseconds(10), [&](RedisClient& client) {
          return one.call(client, absl::Now() + absl::Milliseconds(200));
        });
    EXPECT_EQ(no_other.code(), absl::StatusCode::kDeadlineExceeded) << no_other;
  }
}

TEST(RedisFaultsTest, OfCallsThatAreUnderWayTogetherTheShortestTimeoutHolds) {
  RedisServer server;
  absl::Status bulk;
  const absl::Status small =
      AskFrozen(server, RedisCallKind::kSmall, absl::Milliseconds(300), absl::Hours(1),
                [&](RedisClient& client) {
                  std::thread other([&] {
                    bulk = client.Call({"GET", "k"}, {Soon(), RedisCallKind::kBulk}).status();
                  });
                  while (client.stats().pending_bytes == 0) absl::SleepFor(absl::Milliseconds(1));
                  absl::Status status = client.Call({"GET", "k"}, Soon()).status();
                  other.join();
                  return status;
                });
  EXPECT_EQ(small.code(), absl::StatusCode::kUnavailable) << small;
  EXPECT_EQ(bulk.code(), absl::StatusCode::kUnavailable) << bulk;
}

TEST(RedisFaultsTest, ACallEndsAtItsDeadline) {
  RedisServer server;
  const auto client = RedisClient::Create(server.options());
  ASSERT_TRUE(client->Call({"PING"}, Soon()).ok());
  server.Freeze();
  EXPECT_EQ(client->Call({"PING"}, absl::Now() + absl::Milliseconds(50)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  server.Thaw();
  // The late answer is not taken for another call's.
  EXPECT_EQ(client->Call({"ECHO", "mine"}, Soon())->text, "mine");
}

TEST(RedisFaultsTest, AFullServerRefusesAndKeepsWhatItHas) {
  RedisServer server({"--maxmemory", "4mb", "--maxmemory-policy", "noeviction"});
  const auto client = RedisClient::Create(server.options());
  const auto store = MakeRedisStore(client.get());
  ASSERT_TRUE(Put(*store, "kept").ok());
  absl::Status full;
  for (int i = 0; i < 100 && full.ok(); ++i) {
    full = store->Put(absl::StrCat("fill/", i), std::string(100'000, 'x'), absl::InfiniteFuture(),
                      Soon());
  }
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
  EXPECT_GT(RetryAfter(full), absl::ZeroDuration());
  EXPECT_EQ(store->Get("graph/1", Soon()).value(), "kept");
  EXPECT_TRUE(store->Delete("fill/0", Soon()).ok());
}

TEST(RedisFaultsTest, EvictionTakesOnlyWhatExpires) {
  RedisServer server({"--maxmemory", "4mb", "--maxmemory-policy", "volatile-lru"});
  const auto client = RedisClient::Create(server.options());
  const auto store = MakeRedisStore(client.get());
  ASSERT_TRUE(Put(*store, "kept").ok());
  for (int i = 0; i < 100; ++i) {
    const absl::Status status = store->Put(absl::StrCat("cache/", i), std::string(100'000, 'x'),
                                           absl::Now() + absl::Hours(1), Soon());
    ASSERT_TRUE(status.ok()) << status;
  }
  EXPECT_EQ(store->Get("graph/1", Soon()).value(), "kept");
  int left = 0;
  for (int i = 0; i < 100; ++i) left += store->Get(absl::StrCat("cache/", i), Soon()).ok() ? 1 : 0;
  EXPECT_LT(left, 100);
  // Names of what was evicted are not listed.
  EXPECT_LE(store->List("cache/", "", 1000, Soon())->size(), static_cast<size_t>(left));
}

TEST(RedisFaultsTest, LiesAreErrors) {
  for (const std::string& answer : std::vector<std::string>{
           "", "+PONG\r\n", "-ERR no\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "$-5\r\n", "*-2\r\n",
           "$99999999999999\r\nx", ":99999999999999999999999\r\n", "*1000000000\r\n",
           "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n+x\r\n",
           "+PONG\r\n+extra\r\n", std::string("\0\1\2", 3)}) {
    const Liar liar(answer);
    const auto client =
        RedisClient::Create({.port = liar.port(), .timeouts = Patient(absl::Seconds(2))});
    const auto reply = client->Call({"GET", "k"}, absl::Now() + absl::Seconds(30));
    EXPECT_FALSE(reply.ok()) << answer;
  }
}

// A server that answers PING, and GET with what is given.
RedisOptions OptionsOf(const ScriptedServer& server) {
  return {.port = server.port(),
          .timeouts = Patient(absl::Seconds(10)),
          .max_backoff = absl::Milliseconds(100)};
}

TEST(RedisFaultsTest, NamesThatWereNotAskedForAreLeftOut) {
  const auto text = [](const std::string& name) {
    return absl::StrCat("$", name.size(), "\r\n", name, "\r\n");
  };
  const ScriptedServer server([&](const std::vector<std::string>& command) -> std::string {
    if (command[0] == "PING") return "+PONG\r\n";
    return absl::StrCat("*4\r\n", text("/a"), text("/m"), text("/n"),
                        text("/" + std::string(Store::kMaxKeyBytes, 'x')));
  });
  const auto client = RedisClient::Create(OptionsOf(server));
  const auto store = MakeRedisStore(client.get());
  EXPECT_EQ(store->List("graph/", "graph/m", 10, Soon()).value(),
            std::vector<std::string>{"graph/n"});
}

TEST(RedisFaultsTest, AnAnswerThatIsCutIsNone) {
  const std::string whole = "$10\r\n0123456789\r\n";
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    const ScriptedServer server([&](const std::vector<std::string>& command) -> std::string {
      if (command[0] == "PING") return "+PONG\r\n";
      return whole.substr(0, bytes) + ScriptedServer::kHangUp;
    });
    const auto client = RedisClient::Create(OptionsOf(server));
    EXPECT_EQ(client->Call({"GET", "k"}, Soon()).status().code(), absl::StatusCode::kUnavailable)
        << bytes;
  }
}

TEST(RedisFaultsTest, AnAnswerInPartsIsWhole) {
  std::atomic<int> asked = 0;
  const ScriptedServer server([&](const std::vector<std::string>& command) -> std::string {
    if (command[0] == "PING") return "+PONG\r\n";
    // Each command is answered with a part of what three of them shall get together.
    const char* parts[] = {"$3\r\na", "bc", "\r\n$1\r\nd\r\n:7\r\n"};
    return parts[asked++ % 3];
  });
  RedisOptions options = OptionsOf(server);
  options.connections = 1;
  const auto client = RedisClient::Create(options);
  const auto replies = client->CallMany(
      std::vector<RedisClient::Command>{{"GET", "1"}, {"GET", "2"}, {"GET", "3"}}, Soon());
  EXPECT_EQ(replies[0]->text, "abc");
  EXPECT_EQ(replies[1]->text, "d");
  EXPECT_EQ(replies[2]->integer, 7);
}

// The other end is gone without a word: what is sent is lost, and nothing comes.
TEST(RedisFaultsTest, AHalfOpenConnectionCostsOneTimeout) {
  std::atomic<bool> gone = false;
  const ScriptedServer server([&](const std::vector<std::string>& command) -> std::string {
    if (gone && command[0] != "PING") return "";
    return "+PONG\r\n";
  });
  RedisOptions options = OptionsOf(server);
  options.timeouts = Patient(absl::Milliseconds(300));
  const auto client = RedisClient::Create(options);
  ASSERT_TRUE(Eventually([&] { return client->Call({"GET", "k"}, Soon()).status(); }).ok());
  gone = true;
  EXPECT_EQ(client->Call({"GET", "k"}, Soon()).status().code(), absl::StatusCode::kUnavailable);
  gone = false;
  EXPECT_TRUE(Eventually([&] { return client->Call({"GET", "k"}, Soon()).status(); }).ok());
}

// A subscription over which nothing comes is no sign that nothing happens.
TEST(RedisFaultsTest, AHalfOpenSubscriptionIsMadeAgain) {
  std::atomic<int> subscribed = 0;
  const ScriptedServer server([&](const std::vector<std::string>& command) -> std::string {
    if (command[0] == "PING") return subscribed == 1 ? "" : "+PONG\r\n";
    ++subscribed;
    return "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
  });
  RedisOptions options = OptionsOf(server);
  options.timeouts = Patient(absl::Hours(1));
  options.timeouts.connect = absl::Milliseconds(500);
  options.timeouts.notification = absl::Milliseconds(500);
  options.timeouts.sign_of_life = absl::Milliseconds(100);
  const auto client = RedisClient::Create(options);
  std::atomic<int> messages = 0;
  const auto subscription = client->Subscribe("news", [&] { ++messages; });
  const absl::Status again = Eventually([&] {
    if (subscribed == 1) return absl::UnknownError("once");
    return messages > 1 ? absl::OkStatus() : absl::UnknownError("not told");
  });
  EXPECT_TRUE(again.ok()) << again;
}

TEST(RedisFaultsTest, ASubscriptionIsMadeAgainWhenItIsCut) {
  RedisServer server;
  const auto client = RedisClient::Create(server.options());
  std::atomic<int> messages = 0;
  const auto subscription = client->Subscribe("news", [&] { ++messages; });
  const auto told = [&](int more_than) {
    return Eventually(
        [&] { return messages > more_than ? absl::OkStatus() : absl::UnknownError("not told"); });
  };
  ASSERT_TRUE(told(0).ok());
  for (int i = 0; i < 3; ++i) {
    const int before = messages;
    ASSERT_TRUE(client->Call({"CLIENT", "KILL", "TYPE", "pubsub"}, Soon()).ok());
    EXPECT_TRUE(told(before).ok()) << "something may have been missed";
  }
  const int before = messages;
  server.Kill();
  server.Start();
  EXPECT_TRUE(told(before).ok());
}

// However an endless answer is made, it is not read to its end.
TEST(RedisFaultsTest, EndlessAnswersEnd) {
  const std::string element = "$100000\r\n" + std::string(100'000, 'x') + "\r\n";
  for (const std::string answer :
       {"+PONG\r\n*1000000\r\n", "*1000000\r\n", "+PONG\r\n*2\r\n*1000000\r\n"}) {
    const Liar liar(answer, element);
    const auto client = RedisClient::Create({.port = liar.port(),
                                             .connections = 1,
                                             .timeouts = Patient(absl::Seconds(30)),
                                             .max_reply_bytes = 1'000'000});
    EXPECT_FALSE(client->Call({"GET", "k"}, Soon()).ok()) << answer;
  }
}

}  // namespace
}  // namespace octogate
