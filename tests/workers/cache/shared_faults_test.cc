// What a redis-server does wrong costs engines that share pages time, but never an answer.
#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/common/redis/redis_cluster.h"
#include "tests/common/redis/slow_proxy.h"
#include "tests/workers/cache/shared_engines.h"
#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

constexpr int kPageSize = 4;
constexpr int kPages = 15;
constexpr int kPromptLength = kPageSize * kPages + 1;

class SharedFaultsTest : public ::testing::Test {
 protected:
  SharedFaultsTest() {
    without_ = MakeEngine(FixturePath("llama"), {.page_size = kPageSize, .share_prefixes = false});
  }

  std::unique_ptr<Engine> NewEngine(const RedisOptions& redis, RedisPageStoreOptions store = {},
                                    absl::Duration step_cost_time = absl::ZeroDuration()) {
    RedisOptions client = redis;
    client.connections = 4;
    return NewEngine(RedisClient::Create(client), std::move(store), step_cost_time);
  }
  std::unique_ptr<Engine> NewEngine(std::shared_ptr<RedisClient> client,
                                    RedisPageStoreOptions store = {},
                                    absl::Duration step_cost_time = absl::ZeroDuration()) {
    store.timeout = absl::Seconds(10);
    store.write_from_use = 1;
    EngineOptions options{.page_size = kPageSize, .step_cost_time = step_cost_time};
    options.make_page_store = ShareThroughRedis(std::move(client), std::move(store));
    return MakeEngine(FixturePath("llama"), options);
  }

  std::vector<int32_t> NewPrompt() {
    return RandomIds(random_, kPromptLength, without_->config().vocab_size);
  }

  // The answer of `engine`, which has to be the right one, bit for bit.
  Outcome ExpectRightAnswer(Engine& engine, const std::vector<int32_t>& prompt) {
    const std::vector<GenerateRequest> requests = {SharedRequest(prompt, 3)};
    const std::vector<Outcome> answer = RunAll(engine, requests, false);
    ExpectSameAnswers(answer, RunAll(*without_, requests, false));
    return answer[0];
  }

  // Has one engine compute prompts, until another finds what it has written.
  void AwaitSharing(Engine& from, Engine& to) {
    const absl::Time give_up = absl::Now() + kLong;
    while (absl::Now() < give_up) {
      const auto prompt = NewPrompt();
      ExpectRightAnswer(from, prompt);
      absl::SleepFor(absl::Milliseconds(20));
      if (ExpectRightAnswer(to, prompt).shared_tokens > 0) return;
    }
    ADD_FAILURE() << "nothing is shared";
  }

  // Has two engines share, of which the second finds nothing from `begin` to `end`.
  void ExpectSharedBeforeAndAfter(const RedisServer& server, const RedisOptions& of_first,
                                  const RedisOptions& of_second, const std::function<void()>& begin,
                                  const std::function<void()>& end) {
    const auto first = NewEngine(of_first);
    const auto second = NewEngine(of_second);
    AwaitSharing(*first, *second);
    const auto prompt = NewPrompt();
    const int64_t before = StoredPages(server);
    ExpectRightAnswer(*first, prompt);
    AwaitStored(server, before + kPages);
    begin();
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(ExpectRightAnswer(*second, i == 0 ? prompt : NewPrompt()).shared_tokens, 0);
    }
    end();
    AwaitSharing(*first, *second);
    AwaitSharing(*second, *first);
  }

  const uint32_t seed_ = FreshSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, DescribeSeed(seed_)};
  std::mt19937 random_{seed_};
  std::unique_ptr<Engine> without_;
};

TEST_F(SharedFaultsTest, KilledAndRestartedEmpty) {
  RedisServer server;
  const auto first = NewEngine(server.options());
  const auto second = NewEngine(server.options());
  AwaitSharing(*first, *second);
  const auto prompt = NewPrompt();
  ExpectRightAnswer(*first, prompt);
  AwaitStored(server, kPages);
  EXPECT_TRUE(SharingOf(*second).store.reachable);
  server.Kill();
  EXPECT_EQ(ExpectRightAnswer(*second, prompt).shared_tokens, 0);
  EXPECT_FALSE(SharingOf(*second).store.reachable);
  EXPECT_GT(SharingOf(*second).store.losses, 0u);
  for (int i = 0; i < 5; ++i) ExpectRightAnswer(i % 2 == 0 ? *first : *second, NewPrompt());
  server.Start();
  EXPECT_EQ(StoredPages(server), 0);
  // The first has known that its pages are there; it writes them again.
  const absl::Time give_up = absl::Now() + kLong;
  while (StoredPages(server) < kPages && absl::Now() < give_up) {
    ExpectRightAnswer(*first, prompt);
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_GT(ExpectRightAnswer(*NewEngine(server.options()), prompt).shared_tokens, 0);
  AwaitSharing(*first, *second);
  AwaitSharing(*second, *first);
}

TEST_F(SharedFaultsTest, Frozen) {
  RedisServer server;
  RedisOptions redis = server.options();
  redis.timeouts = Patient(absl::Milliseconds(100));
  ExpectSharedBeforeAndAfter(
      server, redis, redis, [&] { server.Freeze(); }, [&] { server.Thaw(); });
}

// Connections over which nothing comes any more.
TEST_F(SharedFaultsTest, HalfOpen) {
  RedisServer server;
  SlowProxy proxy(server.Socket(), {});
  RedisOptions redis = Through(proxy, server.options());
  redis.timeouts = Patient(absl::Milliseconds(300));
  redis.timeouts.connect = absl::Milliseconds(500);
  ExpectSharedBeforeAndAfter(
      server, server.options(), redis, [&] { proxy.LoseAll(); }, [&] { proxy.LoseNothing(); });
}

// Whatever an engine decides that knows what computing costs: to wait, to compute meanwhile or to
// leave the server alone.
TEST_F(SharedFaultsTest, SlowAndDistant) {
  RedisServer server;
  const auto writer = NewEngine(server.options());
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < 6; ++i) {
    prompts.push_back(NewPrompt());
    ExpectRightAnswer(*writer, prompts.back());
  }
  AwaitStored(server, int64_t{6} * kPages);
  for (const SlowLink link : {SlowLink{.bytes_per_second = 1e6}, SlowLink{.bytes_per_second = 1e7},
                              SlowLink{.delay_seconds = 0.003}}) {
    const SlowProxy proxy(server.Socket(), link);
    const auto engine = NewEngine(Through(proxy, server.options()), {}, absl::Milliseconds(100));
    for (const auto& prompt : prompts) ExpectRightAnswer(*engine, prompt);
    EXPECT_EQ(SharingOf(*engine).store.refused_pages, 0u);
  }
}

TEST_F(SharedFaultsTest, OutOfMemory) {
  RedisServer server({"--maxmemory", "1mb", "--maxmemory-policy", "noeviction"});
  const auto engine = NewEngine(server.options());
  const absl::Time give_up = absl::Now() + kLong;
  while (SharingOf(*engine).store.dropped_pages == 0 && absl::Now() < give_up) {
    ExpectRightAnswer(*engine, NewPrompt());
  }
  EXPECT_GT(SharingOf(*engine).store.dropped_pages, 0u);
  // When there is room again, pages are written again.
  const auto client = RedisClient::Create(server.options());
  ASSERT_TRUE(
      client->Call({"CONFIG", "SET", "maxmemory", "0"}, absl::Now() + absl::Seconds(60)).ok());
  const auto other = NewEngine(server.options());
  AwaitSharing(*engine, *other);
}

TEST_F(SharedFaultsTest, Evicting) {
  RedisServer server({"--maxmemory", "1400kb", "--maxmemory-policy", "allkeys-random",
                      "--maxmemory-samples", "1"});
  const auto first = NewEngine(server.options());
  const auto second = NewEngine(server.options());
  for (int i = 0; i < 60; ++i) {
    const auto prompt = NewPrompt();
    ExpectRightAnswer(*first, prompt);
    ExpectRightAnswer(*second, prompt);
  }
  EXPECT_EQ(SharingOf(*second).store.refused_pages, 0u);
  EXPECT_LT(StoredPages(server), 60 * kPages);
}

TEST_F(SharedFaultsTest, ValuesThatAreNotWhatWasWritten) {
  RedisServer server;
  const auto client = RedisClient::Create(server.options());
  const auto call = [&](std::initializer_list<std::string_view> arguments) {
    auto reply = client->Call(arguments, absl::Now() + absl::Seconds(60));
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.ok() ? *std::move(reply) : RedisReply();
  };
  const auto prompt = NewPrompt();
  const auto first = NewEngine(server.options());
  ExpectRightAnswer(*first, prompt);
  AwaitStored(server, kPages);
  std::vector<std::string> names;
  std::vector<std::string> values;
  for (const RedisReply& name : call({"KEYS", "octogate:kv:{*"}).elements) {
    names.push_back(name.text);
    values.push_back(call({"GET", name.text}).text);
  }
  ASSERT_GE(names.size(), static_cast<size_t>(kPages));
  const auto damage = [&](const std::function<std::string(size_t)>& wrong) {
    for (size_t i = 0; i < names.size(); ++i) call({"SET", names[i], wrong(i)});
    const auto engine = NewEngine(server.options());
    EXPECT_EQ(ExpectRightAnswer(*engine, prompt).shared_tokens, 0);
    EXPECT_GT(SharingOf(*engine).store.refused_pages, 0u);
  };
  damage([&](size_t) { return std::string(); });
  damage([&](size_t i) { return values[i].substr(0, random_() % values[i].size()); });
  damage([&](size_t i) { return values[i] + "x"; });
  damage([&](size_t i) { return std::string(values[i].size(), '\0'); });
  damage([&](size_t i) { return std::string(values[i].size(), '\xff'); });
  damage([&](size_t i) {
    std::string value = values[i];
    value[random_() % value.size()] ^= static_cast<char>(1 << random_() % 8);
    return value;
  });
  // Valid, but in the place of another.
  damage([&](size_t i) { return values[(i + 1) % values.size()]; });
  damage([&](size_t i) {  // the next version
    std::string value = values[i];
    ++value[36];
    return value;
  });
  // Of another kind.
  for (const std::string& name : names) {
    call({"DEL", name});
    call({"LPUSH", name, "x"});
  }
  const auto engine = NewEngine(server.options());
  EXPECT_EQ(ExpectRightAnswer(*engine, prompt).shared_tokens, 0);
  // One that is damaged in the middle costs what is behind it; it is written again by whoever has
  // found it so.
  for (size_t i = 0; i < names.size(); ++i) call({"SET", names[i], values[i]});
  const auto all = NewEngine(server.options());
  EXPECT_EQ(ExpectRightAnswer(*all, prompt).shared_tokens, kPageSize * kPages);
}

TEST_F(SharedFaultsTest, PagesThatWereRefusedAreWrittenAgain) {
  RedisServer server;
  const auto client = RedisClient::Create(server.options());
  const auto prompt = NewPrompt();
  const auto first = NewEngine(server.options());
  ExpectRightAnswer(*first, prompt);
  AwaitStored(server, kPages);
  const auto names = client->Call({"KEYS", "octogate:kv:{*"}, absl::Now() + absl::Seconds(60));
  ASSERT_TRUE(names.ok());
  for (const RedisReply& name : names->elements) {
    ASSERT_TRUE(client->Call({"SET", name.text, "x"}, absl::Now() + absl::Seconds(60)).ok());
  }
  const auto second = NewEngine(server.options());
  EXPECT_EQ(ExpectRightAnswer(*second, prompt).shared_tokens, 0);
  const absl::Time give_up = absl::Now() + kLong;
  while (SharingOf(*second).store.written_bytes == 0 && absl::Now() < give_up) {
    ExpectRightAnswer(*second, NewPrompt());  // which publishes its counters
  }
  const auto third = NewEngine(server.options());
  EXPECT_GT(ExpectRightAnswer(*third, prompt).shared_tokens, 0);
}

TEST_F(SharedFaultsTest, WithoutTheSecretNothingIsBelieved) {
  RedisServer server;
  const auto prompt = NewPrompt();
  const auto first = NewEngine(server.options(), {.secret = "0123456789abcdef"});
  ExpectRightAnswer(*first, prompt);
  AwaitStored(server, kPages);
  const auto outsider = NewEngine(server.options(), {.secret = "0123456789abcdeX"});
  EXPECT_EQ(ExpectRightAnswer(*outsider, prompt).shared_tokens, 0);
  const auto insider = NewEngine(server.options(), {.secret = "0123456789abcdef"});
  EXPECT_EQ(ExpectRightAnswer(*insider, prompt).shared_tokens, kPageSize * kPages);
}

TEST_F(SharedFaultsTest, AMasterOfAClusterDies) {
  RedisCluster cluster(/*node_timeout_ms=*/2000);
  const auto first = NewEngine(cluster.options());
  const auto second = NewEngine(cluster.options());
  AwaitSharing(*first, *second);
  const auto stored = [&] {
    int64_t pages = 0;
    for (int i = 0; i < RedisCluster::kMasters; ++i) {
      pages += RedisCluster::Ask(cluster.node(i), {"DBSIZE"}).integer;
    }
    return pages;
  };
  const int64_t before = stored();
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < 6; ++i) {
    prompts.push_back(NewPrompt());
    ExpectRightAnswer(*first, prompts.back());
  }
  RedisCluster::AwaitTrue([&] { return stored() >= before + 6 * kPages; });
  cluster.AwaitReplicas();
  cluster.node(static_cast<int>(random_() % RedisCluster::kMasters)).server->Kill();
  for (int i = 0; i < 3; ++i) ExpectRightAnswer(*second, NewPrompt());
  // Its replica has all that it had. Who asks for that here writes nothing itself.
  RedisCluster::AwaitTrue([&] {
    const std::shared_ptr<RedisClient> client = RedisClient::Create(cluster.options());
    RedisCluster::AwaitTrue([&] { return client->stats().reachable; });
    const auto reader = NewEngine(client, {.max_write_bytes = 1});
    bool all = true;
    for (const auto& prompt : prompts) {
      all = ExpectRightAnswer(*reader, prompt).shared_tokens == kPageSize * kPages && all;
    }
    return all;
  });
  AwaitSharing(*first, *second);
}

// One that nobody replaces; what has the marks of flushes is needed by all.
TEST_F(SharedFaultsTest, AMasterThatIsGoneTakesNoOthersPagesAway) {
  RedisCluster cluster;
  const auto ask = [&](int i, std::initializer_list<std::string_view> command) {
    return RedisCluster::Ask(cluster.node(i), command);
  };
  for (int i = 0; i < 2 * RedisCluster::kMasters; ++i) {
    ask(i, {"CONFIG", "SET", "cluster-require-full-coverage", "no"});
  }
  const auto first = NewEngine(cluster.options());
  std::string marks;
  int with_marks = -1;
  RedisCluster::AwaitTrue([&] {
    for (int i = 0; i < RedisCluster::kMasters; ++i) {
      for (const RedisReply& key : ask(i, {"KEYS", "octogate:kv:flushes:*"}).elements) {
        marks = key.text;
        with_marks = i;
      }
    }
    return with_marks >= 0;
  });
  const auto stored = [&] {
    std::vector<int64_t> keys;
    for (int i = 0; i < RedisCluster::kMasters; ++i) keys.push_back(ask(i, {"DBSIZE"}).integer);
    return keys;
  };
  // One on each master.
  std::vector<std::vector<int32_t>> prompts(RedisCluster::kMasters);
  while (std::any_of(prompts.begin(), prompts.end(), [](const auto& p) { return p.empty(); })) {
    const std::vector<int64_t> before = stored();
    const auto prompt = NewPrompt();
    ExpectRightAnswer(*first, prompt);
    RedisCluster::AwaitTrue([&] {
      const std::vector<int64_t> now = stored();
      for (size_t i = 0; i < now.size(); ++i) {
        if (now[i] < before[i] + kPages) continue;
        prompts[i] = prompt;
        return true;
      }
      return false;
    });
    ASSERT_FALSE(HasFailure());
  }
  const auto kill = [&](int master) {
    cluster.node(RedisCluster::kMasters + master).server->Kill();
    cluster.node(master).server->Kill();
  };
  const int gone = (with_marks + 1 + static_cast<int>(random_() % 2)) % RedisCluster::kMasters;
  const int other = RedisCluster::kMasters - with_marks - gone;
  kill(gone);
  const auto expect_shared = [&](bool from_others) {
    const std::shared_ptr<RedisClient> client = RedisClient::Create(cluster.options());
    RedisCluster::AwaitTrue([&] {
      return client->ShardStateOf(marks).reachable == from_others && !client->stats().reachable;
    });
    const auto reader = NewEngine(client, {.max_write_bytes = 1});
    for (const int i : {with_marks, other}) {
      EXPECT_EQ(ExpectRightAnswer(*reader, prompts[static_cast<size_t>(i)]).shared_tokens,
                from_others ? kPageSize * kPages : 0);
    }
    EXPECT_EQ(ExpectRightAnswer(*reader, prompts[static_cast<size_t>(gone)]).shared_tokens, 0);
  };
  expect_shared(true);
  // What the living ones are to have is written, too.
  for (const int i : {with_marks, other}) {
    const int64_t before = ask(i, {"DBSIZE"}).integer;
    RedisCluster::AwaitTrue([&] {
      ExpectRightAnswer(*first, NewPrompt());
      return ask(i, {"DBSIZE"}).integer >= before + kPages;
    });
  }
  kill(with_marks);
  expect_shared(false);
}

TEST_F(SharedFaultsTest, NoServerAtAll) {
  const auto engine = NewEngine({.unix_socket = "/nonexistent/redis.sock"});
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(ExpectRightAnswer(*engine, NewPrompt()).shared_tokens, 0);
  }
}

TEST_F(SharedFaultsTest, LittleRoomForFetchesAndWrites) {
  RedisServer server;
  const auto prompt = NewPrompt();
  const auto first = NewEngine(server.options());
  ExpectRightAnswer(*first, prompt);
  AwaitStored(server, kPages);
  // Room for some of the pages.
  const auto client = RedisClient::Create(server.options());
  const auto any = client->Call({"KEYS", "octogate:kv:{*"}, absl::Now() + absl::Seconds(60));
  ASSERT_TRUE(any.ok());
  const auto length =
      client->Call({"STRLEN", any->elements[0].text}, absl::Now() + absl::Seconds(60));
  ASSERT_TRUE(length.ok());
  const auto bytes = static_cast<size_t>(length->integer);
  const auto little = NewEngine(
      server.options(),
      {.chunk_bytes = 2 * bytes, .max_fetch_bytes = 5 * bytes, .max_write_bytes = 2 * bytes});
  // The others come in the room of those that are in the engine's cache by then.
  EXPECT_EQ(ExpectRightAnswer(*little, prompt).shared_tokens, kPages * kPageSize);
  const absl::Time give_up = absl::Now() + kLong;
  while (SharingOf(*little).store.dropped_pages == 0 && absl::Now() < give_up) {
    ExpectRightAnswer(*little, NewPrompt());
  }
  EXPECT_GT(SharingOf(*little).store.dropped_pages, 0u);
}

}  // namespace
}  // namespace octogate::workers
