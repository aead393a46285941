// Large values, which are sent from where they are and while their digest is made: what becomes of
// them, and of their memory, where a server takes them in parts, late, or not at all.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/redis/checked_value.h"
#include "common/redis/redis_client.h"
#include "common/redis/redis_store.h"
#include "common/redis/redis_value_cache.h"
#include "tests/common/redis/loopback_listener.h"
#include "tests/common/redis/redis_server.h"

namespace octogate {
namespace {

absl::Time Soon() { return absl::Now() + absl::Seconds(60); }

std::string RandomText(size_t bytes, std::mt19937_64& random) {
  std::string text(bytes, '\0');
  for (char& byte : text) byte = static_cast<char>(random());
  return text;
}

TEST(RedisSealTest, IsTheTrailerHoweverTheValueIsRead) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    const std::string key = RandomText(random() % 50, random);
    const std::string value = RandomText(random() % 5000, random);
    RedisSeal seal(key, value);
    // Now and then not to the end, and back.
    for (size_t pieces = random() % 20; pieces > 0; --pieces) seal.Read(random() % 6000);
    EXPECT_EQ(seal.Trailer(), RedisTrailer(key, value));
    seal.Read(random() % 6000);
    EXPECT_EQ(seal.Trailer(), RedisTrailer(key, value)) << "again";
    EXPECT_EQ(*CheckedRedisValue(key, value + RedisTrailer(key, value)), value);
  }
}

// Values in a memory of their own, which is overwritten and given back.
struct Values {
  std::vector<std::unique_ptr<std::string>> texts;

  explicit Values(const std::vector<std::string>& copied) {
    for (const std::string& text : copied) texts.push_back(std::make_unique<std::string>(text));
  }
  ~Values() {
    for (const auto& text : texts) std::fill(text->begin(), text->end(), '!');
  }
};

// A way to write `values` under the keys "part/0" and so on, and to read one of them.
struct Way {
  const char* name;
  std::function<std::vector<absl::Status>(RedisClient&, const Values&, absl::Time)> write;
  std::function<absl::StatusOr<std::string>(RedisClient&, size_t)> read;
};

std::string KeyOf(size_t i) { return absl::StrCat("part/", i); }

const Way kWays[] = {
    {"store",
     [](RedisClient& client, const Values& values, absl::Time deadline) {
       std::vector<std::string> keys;
       for (size_t i = 0; i < values.texts.size(); ++i) keys.push_back(KeyOf(i));
       std::vector<Store::Entry> entries;
       for (size_t i = 0; i < keys.size(); ++i) entries.push_back({keys[i], *values.texts[i]});
       return MakeRedisStore(&client)->PutMany(entries, deadline);
     },
     [](RedisClient& client, size_t i) { return MakeRedisStore(&client)->Get(KeyOf(i), Soon()); }},
    {"cache",
     [](RedisClient& client, const Values& values, absl::Time deadline) {
       std::vector<ValueCache::Entry> entries;
       for (size_t i = 0; i < values.texts.size(); ++i) {
         entries.push_back({KeyOf(i), *values.texts[i], absl::Hours(1)});
       }
       return MakeRedisValueCache(&client)->PutMany(entries, deadline);
     },
     [](RedisClient& client, size_t i) {
       const std::string key = KeyOf(i);
       return MakeRedisValueCache(&client)->GetMany({&key, 1}, Soon())[0];
     }},
    {"commands",
     [](RedisClient& client, const Values& values, absl::Time deadline) {
       std::vector<std::string> keys;
       for (size_t i = 0; i < values.texts.size(); ++i) keys.push_back(KeyOf(i));
       std::vector<RedisClient::Command> commands;
       for (size_t i = 0; i < keys.size(); ++i) {
         commands.push_back({"SET", keys[i], *values.texts[i]});
       }
       std::vector<absl::Status> statuses;
       for (const auto& reply : client.CallMany(commands, deadline)) {
         statuses.push_back(reply.status());
       }
       return statuses;
     },
     [](RedisClient& client, size_t i) -> absl::StatusOr<std::string> {
       absl::StatusOr<RedisReply> reply = client.Call({"GET", KeyOf(i)}, Soon());
       if (!reply.ok()) return reply.status();
       if (reply->kind == RedisReply::Kind::kNil) return absl::NotFoundError("nothing");
       return reply->text;
     }},
};

// So that the next caller has the connections: its thread lends them after a call.
void Settle(RedisClient& client) {
  for (int i = 0; i < 2; ++i) {
    const auto reply = client.Call({"PING"}, Soon());
    EXPECT_TRUE(reply.ok()) << reply.status();
    absl::SleepFor(absl::Milliseconds(1));
  }
}

// What a caller that has given up had sent in part is sent to its end, as it was.
TEST(RedisSendingTest, AValueOfACallerThatGaveUpIsWrittenAsItWas) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (const Way& way : kWays) {
    SCOPED_TRACE(way.name);
    RedisServer server;
    const auto client = RedisClient::Create(server.options());
    for (int round = 0; round < 4; ++round) {
      // Of which a socket takes a part only.
      std::vector<std::string> texts;
      for (size_t left = 1 + random() % 3; left > 0; --left) {
        texts.push_back(RandomText(1'500'000 + random() % 100'000, random));
      }
      Settle(*client);
      server.Freeze();
      {
        const Values values(texts);
        const std::vector<absl::Status> statuses =
            way.write(*client, values, absl::Now() + absl::Milliseconds(100));
        for (const absl::Status& status : statuses) {
          EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
        }
      }
      server.Thaw();
      const absl::Time give_up = Soon();
      while (client->stats().pending_bytes > 0 && absl::Now() < give_up) {
        absl::SleepFor(absl::Milliseconds(1));
      }
      for (size_t i = 0; i < texts.size(); ++i) {
        const absl::StatusOr<std::string> got = way.read(*client, i);
        // Of several, those may be missing that were not on their way by the deadline.
        if (i > 0 && absl::IsNotFound(got.status())) continue;
        ASSERT_TRUE(got.ok()) << got.status();
        EXPECT_TRUE(*got == texts[i]) << i;
      }
      EXPECT_TRUE(client->Call({"FLUSHALL"}, Soon()).ok());
    }
    EXPECT_EQ(client->stats().losses, 0U);
    EXPECT_EQ(client->stats().pending_bytes, 0U);
  }
}

// By several callers at once, of whom one at a time sends for itself, to a server that stands still
// now and then.
TEST(RedisSendingTest, ValuesOfAllSizesArriveInParts) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  for (const int callers : {1, 3}) {
    RedisServer server;
    const auto client = RedisClient::Create(server.options());
    std::atomic<bool> ended{false};
    std::thread stops([&] {
      while (!ended) {
        server.Freeze();
        absl::SleepFor(absl::Milliseconds(1));
        server.Thaw();
        absl::SleepFor(absl::Milliseconds(1));
      }
    });
    std::vector<std::thread> threads;
    threads.reserve(static_cast<size_t>(callers));
    for (int caller = 0; caller < callers; ++caller) {
      threads.emplace_back([&, caller] {
        std::mt19937_64 random(seed + static_cast<uint64_t>(caller));
        const auto store = MakeRedisStore(client.get());
        const auto cache = MakeRedisValueCache(client.get());
        for (int round = 0; round < 10; ++round) {
          std::vector<std::string> keys, texts;
          for (size_t i = 0, size = 1 + random() % 8; i < size; ++i) {
            keys.push_back(absl::StrCat("part", i % 2, "/", caller, "/", i));
            texts.push_back(RandomText(random() % (random() % 2 == 0 ? 400'000 : 40'000), random));
          }
          std::vector<Store::Entry> entries;
          std::vector<ValueCache::Entry> cached;
          for (size_t i = 0; i < keys.size(); ++i) {
            entries.push_back({keys[i], texts[i]});
            cached.push_back({keys[i], texts[i], absl::Hours(1)});
          }
          for (const absl::Status& put : store->PutMany(entries, Soon())) {
            EXPECT_TRUE(put.ok()) << put;
          }
          for (const absl::Status& put : cache->PutMany(cached, Soon())) {
            EXPECT_TRUE(put.ok()) << put;
          }
          const auto got = cache->GetMany(keys, Soon());
          for (size_t i = 0; i < keys.size(); ++i) {
            const auto stored = store->Get(keys[i], Soon());
            ASSERT_TRUE(stored.ok()) << stored.status();
            EXPECT_TRUE(*stored == texts[i]) << texts[i].size();
            ASSERT_TRUE(got[i].ok()) << got[i].status();
            EXPECT_TRUE(*got[i] == texts[i]) << texts[i].size();
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    ended = true;
    stops.join();
    EXPECT_EQ(client->stats().losses, 0U);
    EXPECT_EQ(client->stats().pending_bytes, 0U);
  }
}

// A server that reads so many bytes of what follows PING and closes the connection. Ends after its
// clients.
class Quitter {
 public:
  Quitter(size_t bytes, bool resets) : bytes_(bytes), resets_(resets) {
    thread_ = std::thread([this] { Serve(); });
  }
  ~Quitter() {
    listener_.Stop();
    thread_.join();
    for (std::thread& thread : threads_) thread.join();
  }
  int port() const { return listener_.port(); }

 private:
  void Serve() {
    for (;;) {
      const int peer = listener_.Accept();
      if (peer < 0) return;
      threads_.emplace_back([this, peer] {
        char bytes[10'000];
        ssize_t came = ::recv(peer, bytes, sizeof bytes, 0);
        ::send(peer, "+PONG\r\n", 7, MSG_NOSIGNAL);
        for (size_t left = bytes_; left > 0 && came > 0; left -= static_cast<size_t>(came)) {
          came = ::recv(peer, bytes, std::min(left, sizeof bytes), 0);
        }
        const linger at_once{.l_onoff = 1, .l_linger = 0};
        if (resets_) ::setsockopt(peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        ::close(peer);
      });
    }
  }

  const size_t bytes_;
  const bool resets_;
  const LoopbackListener listener_;
  std::vector<std::thread> threads_;
  std::thread thread_;
};

TEST(RedisSendingTest, AServerThatClosesMidValueFailsItAndKeepsNothingOfIt) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 12; ++round) {
    const Way& way = kWays[round % std::size(kWays)];
    SCOPED_TRACE(way.name);
    const Quitter server(1 + random() % 6'000'000, round % 2 == 0);
    const auto client = RedisClient::Create({.port = server.port(),
                                             .timeouts = Patient(absl::Milliseconds(500)),
                                             .first_backoff = absl::Milliseconds(1),
                                             .max_backoff = absl::Milliseconds(5)});
    for (int again = 0; again < 3; ++again) {
      const absl::Time give_up = Soon();
      while (!client->stats().reachable && absl::Now() < give_up) {
        absl::SleepFor(absl::Milliseconds(1));
      }
      absl::SleepFor(absl::Milliseconds(2));
      const Values values(std::vector<std::string>(4, RandomText(5'000'000, random)));
      const std::vector<absl::Status> statuses = way.write(*client, values, Soon());
      ASSERT_EQ(statuses.size(), 4U);
      for (const absl::Status& status : statuses) {
        EXPECT_TRUE(absl::IsUnavailable(status)) << status;
      }
    }
    EXPECT_EQ(client->stats().pending_bytes, 0U);
  }
}

}  // namespace
}  // namespace octogate
