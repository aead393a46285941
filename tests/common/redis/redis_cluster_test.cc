// A client of a real cluster, while slots move, a master dies, or a node lies.
#include "common/redis/redis_cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/memory_store.h"
#include "common/redis/redis_slots.h"
#include "common/redis/redis_store.h"
#include "tests/common/redis/redis_cluster.h"
#include "tests/common/redis/scripted_server.h"

namespace octogate {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

absl::Time Soon() { return RedisCluster::Soon(); }

class RedisClusterTest : public testing::Test {
 protected:
  // One for all tests that leave it as it is.
  static RedisCluster& cluster() {
    static const auto cluster = std::make_unique<RedisCluster>();
    return *cluster;
  }
};

TEST_F(RedisClusterTest, SlotsAreThoseOfTheServer) {
  EXPECT_EQ(RedisSlot("123456789"), 0x31c3 % kRedisSlots);
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 300; ++i) {
    std::string key(random() % 12, '\0');
    for (char& c : key) c = "{}a/b\xff"[random() % 6];
    EXPECT_EQ(RedisSlot(key),
              RedisCluster::Ask(cluster().node(0), {"CLUSTER", "KEYSLOT", key}).integer)
        << key;
  }
}

// The same calls on a store in memory.
TEST_F(RedisClusterTest, AStoreBehavesAsInMemory) {
  const auto client = RedisClient::Create(cluster().options());
  const unsigned seed = std::random_device{}();
  const auto store = MakeRedisStore(client.get(), {.prefix = absl::StrCat("map", seed, ":")});
  const auto model = MakeMemoryStore();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  std::vector<std::string> keys;
  for (int i = 0; i < 30; ++i) keys.push_back(absl::StrCat("part", i % 10, "/", i));
  for (int step = 0; step < 300; ++step) {
    const std::string& key = keys[random() % keys.size()];
    const std::string value = absl::StrCat(random() % 3);
    switch (random() % 4) {
      case 0:
        EXPECT_TRUE(store->Put(key, value, absl::InfiniteFuture(), Soon()).ok());
        EXPECT_TRUE(model->Put(key, value, absl::InfiniteFuture(), Soon()).ok());
        break;
      case 1:
        EXPECT_TRUE(store->Delete(key, Soon()).ok());
        EXPECT_TRUE(model->Delete(key, Soon()).ok());
        break;
      case 2: {
        const auto set = [&](Store& one) {
          return one.CompareAndSet(key, "1", value, absl::InfiniteFuture(), Soon()).code();
        };
        EXPECT_EQ(set(*store), set(*model));
        break;
      }
      default:
        EXPECT_EQ(store->Get(key, Soon()).value_or("none"),
                  model->Get(key, Soon()).value_or("none"));
    }
  }
  EXPECT_EQ(store->List("", "", 100, Soon()).value(), model->List("", "", 100, Soon()).value());
  const std::vector<std::string_view> asked(keys.begin(), keys.end());
  const auto values = store->GetMany(asked, Soon());
  for (size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(values[i].value_or("none"), model->Get(keys[i], Soon()).value_or("none"));
  }
  std::vector<Store::Entry> entries;
  for (const std::string& key : keys) entries.push_back({key, key});
  for (const absl::Status& put : store->PutMany(entries, Soon())) EXPECT_TRUE(put.ok()) << put;
  EXPECT_EQ(store->List("", "", 100, Soon())->size(), keys.size());
}

TEST_F(RedisClusterTest, IsFoundWhereTheFirstNodeIsGone) {
  RedisOptions options = cluster().options();
  options.port = FreePort();
  const auto client = RedisClient::Create(options);
  EXPECT_TRUE(client->Call({"SET", "found", "yes"}, Soon()).ok());
}

TEST_F(RedisClusterTest, ATopologyNotKnownIsNoServer) {
  const int port = FreePort();
  const auto nobody = RedisClient::Create(
      {.host = "127.0.0.1", .port = port, .cluster = true, .timeouts = Patient(absl::Seconds(10))});
  const absl::Status status = nobody->Call({"GET", "k"}, Soon()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(status.ToString(), HasSubstr(absl::StrCat(port)));
  EXPECT_FALSE(nobody->stats().reachable);
}

TEST_F(RedisClusterTest, AClientOfOneServerSaysThatItIsOneOfACluster) {
  const auto client = RedisClient::Create(cluster().node(0).server->options());
  std::string key = "k";
  while (RedisCluster::MasterOf(RedisSlot(key)) == 0) key += "k";
  const absl::Status status = client->Call({"GET", key}, Soon()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.ToString(), HasSubstr("redis+cluster://"));
}

// A slot moves from one master to another, one key at a time, under a client that does not know.
TEST_F(RedisClusterTest, FollowsASlotThatMoves) {
  const auto client = RedisClient::Create(cluster().options());
  // Another slot in each run: one that has moved is no longer where it was made.
  const std::string tag = absl::StrCat("{", std::random_device{}(), "}");
  SCOPED_TRACE(testing::Message() << "tag " << tag);
  const std::string moved = tag + "moved";
  const std::string staying = tag + "staying";
  for (const std::string& key : {moved, staying}) {
    ASSERT_TRUE(client->Call({"SET", key, key}, Soon()).ok());
  }
  const int slot = RedisSlot(moved);
  const std::string slot_text = absl::StrCat(slot);
  RedisCluster::Node& from = cluster().node(RedisCluster::MasterOf(slot));
  RedisCluster::Node& to =
      cluster().node((RedisCluster::MasterOf(slot) + 1) % RedisCluster::kMasters);
  RedisCluster::Ask(to, {"CLUSTER", "SETSLOT", slot_text, "IMPORTING", from.id});
  RedisCluster::Ask(from, {"CLUSTER", "SETSLOT", slot_text, "MIGRATING", to.id});
  RedisCluster::Ask(from, {"MIGRATE", "127.0.0.1", absl::StrCat(to.port), moved, "0", "10000"});
  EXPECT_EQ(client->Call({"GET", moved}, Soon())->text, moved) << "by ASK";
  EXPECT_EQ(client->Call({"GET", staying}, Soon())->text, staying);
  const auto both =
      client->CallMany(std::vector<RedisClient::Command>{{"GET", moved}, {"GET", staying}}, Soon());
  EXPECT_EQ(both[0]->text, moved);
  EXPECT_EQ(both[1]->text, staying);
  RedisCluster::Ask(from, {"MIGRATE", "127.0.0.1", absl::StrCat(to.port), staying, "0", "10000"});
  for (RedisCluster::Node* node : {&to, &from}) {
    RedisCluster::Ask(*node, {"CLUSTER", "SETSLOT", slot_text, "NODE", to.id});
  }
  EXPECT_EQ(client->Call({"GET", moved}, Soon())->text, moved) << "by MOVED";
  EXPECT_EQ(client->Call({"GET", staying}, Soon())->text, staying);
}

TEST_F(RedisClusterTest, MessagesReachEveryNode) {
  const auto client = RedisClient::Create(cluster().options());
  std::atomic<int> messages = 0;
  const auto subscription = client->Subscribe("octogate:@news", [&] { ++messages; });
  RedisCluster::AwaitTrue([&] { return messages > 0; });  // subscribed
  for (int i = 0; i < 2 * RedisCluster::kMasters; ++i) {
    const int before = messages;
    RedisCluster::Ask(cluster().node(i), {"PUBLISH", "octogate:@news", ""});
    RedisCluster::AwaitTrue([&] { return messages > before; });
  }
}

// One evicting master would lose the graphs that have slots there, whoever is asked first.
TEST_F(RedisClusterTest, SaysWhichMastersWouldLoseGraphs) {
  const auto client = RedisClient::Create(cluster().options());
  const auto check = [&] { return CheckRedisKeepsValues(*client, Soon()); };
  EXPECT_TRUE(check().ok()) << check();
  const auto set = [](int node, std::string_view name, std::string_view value) {
    RedisCluster::Ask(cluster().node(node), {"CONFIG", "SET", name, value});
  };
  const auto address = [](int node) {
    return absl::StrCat("127.0.0.1:", cluster().node(node).port);
  };
  for (int bad = 0; bad < RedisCluster::kMasters; ++bad) {
    set(bad, "maxmemory-policy", "allkeys-lru");
    const absl::Status status = check();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(status.ToString(),
                HasSubstr(address(bad) + " has maxmemory-policy allkeys-lru and may drop graphs; "
                                         "set noeviction or volatile-lru there"));
    for (int other = 0; other < RedisCluster::kMasters; ++other) {
      if (other == bad) continue;
      EXPECT_THAT(status.ToString(), Not(HasSubstr(address(other))));
    }
    set(bad, "maxmemory-policy", "volatile-lru");
  }
  set(0, "maxmemory-policy", "allkeys-random");
  set(2, "appendonly", "no");
  EXPECT_THAT(check().ToString(), AllOf(HasSubstr(address(0) + " has maxmemory-policy"),
                                        HasSubstr(address(2) + " keeps nothing over a restart")));
  set(0, "maxmemory-policy", "noeviction");
  set(2, "appendonly", "yes");
  EXPECT_TRUE(check().ok()) << check();
}

// A master is killed; its replica takes its place; the client finds it.
TEST(RedisClusterFaultsTest, AMasterThatDiesIsReplacedWithoutARestart) {
  RedisCluster cluster(/*node_timeout_ms=*/2000);
  const auto client = RedisClient::Create(cluster.options());
  const auto store = MakeRedisStore(client.get());
  std::vector<std::string> keys;
  for (int i = 0; i < 30; ++i) {
    keys.push_back(absl::StrCat("graph", i, "/1"));
    ASSERT_TRUE(store->Put(keys.back(), keys.back(), absl::InfiniteFuture(), Soon()).ok());
  }
  std::atomic<int> messages = 0;
  const auto subscription = client->Subscribe("news", [&] { ++messages; });
  RedisCluster::AwaitTrue([&] { return messages > 0; });
  cluster.AwaitReplicas();
  cluster.node(1).server->Kill();
  // Of whom nothing is asked, and who finds a master that is gone.
  RedisOptions quiet = cluster.options();
  quiet.topology_interval = absl::InfiniteDuration();
  const auto idle = RedisClient::Create(quiet);
  RedisCluster::AwaitTrue([&] {
    for (const std::string& key : keys) {
      const auto value = store->Get(key, Soon());
      if (!value.ok()) {
        EXPECT_EQ(value.status().code(), absl::StatusCode::kUnavailable) << value.status();
        return false;
      }
      EXPECT_EQ(*value, key);
    }
    return true;
  });
  for (const std::string& key : keys) {
    RedisCluster::AwaitTrue(
        [&] { return store->Put(key, "again", absl::InfiniteFuture(), Soon()).ok(); });
  }
  // Whichever node the subscription was at.
  RedisCluster::AwaitTrue([&] {
    const int before = messages;
    if (!client->Call({"PUBLISH", "news", ""}, Soon()).ok()) return false;
    absl::SleepFor(absl::Milliseconds(100));
    return messages > before;
  });
  RedisCluster::AwaitTrue([&] { return client->stats().reachable && idle->stats().reachable; });
}

std::string Text(const std::string& text) {
  return absl::StrCat("$", text.size(), "\r\n", text, "\r\n");
}

// One node that has all slots, and answers GET with what a test says.
class LyingNode {
 public:
  explicit LyingNode(std::function<std::string(int port)> get)
      : server_([this, get](const std::vector<std::string>& command) -> std::string {
          if (command[0] == "PING") return "+PONG\r\n";
          if (command[0] == "ASKING") return "+OK\r\n";
          if (command[0] == "CLUSTER") {
            ++refreshes_;
            return absl::StrCat("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n", Text("127.0.0.1"), ":",
                                port_.load(), "\r\n");
          }
          ++gets_;
          return get(port_);
        }) {
    port_ = server_.port();
  }
  RedisOptions options() const {
    return {.host = "127.0.0.1",
            .port = server_.port(),
            .cluster = true,
            .timeouts = Patient(absl::Seconds(10))};
  }
  int gets() const { return gets_; }
  int refreshes() const { return refreshes_; }

 private:
  std::atomic<int> port_ = 0;
  std::atomic<int> gets_ = 0;
  std::atomic<int> refreshes_ = 0;
  ScriptedServer server_;
};

TEST(RedisClusterFaultsTest, RedirectionsInALoopEnd) {
  for (const std::string kind : {"MOVED", "ASK"}) {
    const LyingNode node(
        [&](int port) { return absl::StrCat("-", kind, " 7 127.0.0.1:", port, "\r\n"); });
    const auto client = RedisClient::Create(node.options());
    const absl::Status status = client->Call({"GET", "k"}, Soon()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_THAT(status.ToString(), HasSubstr("from node to node"));
    EXPECT_LE(node.gets(), 10);
  }
}

TEST(RedisClusterFaultsTest, RedirectionsToNowhereEnd) {
  for (const std::string& where :
       {absl::StrCat("127.0.0.1:", FreePort()), std::string(300, 'h') + ":6379"}) {
    const LyingNode node([&](int) { return absl::StrCat("-MOVED 7 ", where, "\r\n"); });
    const auto client = RedisClient::Create(node.options());
    EXPECT_EQ(client->Call({"GET", "k"}, Soon()).status().code(), absl::StatusCode::kUnavailable);
  }
  for (const std::string lie : {"MOVED", "MOVED 7", "MOVED 99999 a:1", "MOVED 7 a:0", "ASK x a:1",
                                "MOVED 7 a:b", "MOVED -1 a:1", "ASK  :1"}) {
    const LyingNode node([&](int) { return absl::StrCat("-", lie, "\r\n"); });
    const auto client = RedisClient::Create(node.options());
    EXPECT_EQ(client->Call({"GET", "k"}, Soon()).status().code(), absl::StatusCode::kInternal)
        << lie;
  }
}

// However often a node sends commands elsewhere, it is asked for the topology now and then only,
// and others than it names at last are forgotten.
TEST(RedisClusterFaultsTest, LiesCostFewRefreshesAndNoMemory) {
  std::atomic<int> next = 1;
  const LyingNode node(
      [&](int) { return absl::StrCat("-MOVED 7 127.0.1.1:", 1 + next++ % 60'000, "\r\n"); });
  RedisOptions options = node.options();
  options.first_backoff = absl::Seconds(20);  // the rate that refreshes are limited to
  options.max_backoff = absl::Seconds(20);
  const auto client = RedisClient::Create(options);
  std::string key = "k";
  for (int i = 0; i < 100; ++i) {
    key += "k";
    EXPECT_FALSE(client->Call({"GET", key}, Soon()).ok());
  }
  EXPECT_LE(node.refreshes(), 1 + static_cast<int>(absl::Seconds(120) / absl::Seconds(10)));
  EXPECT_LE(node.gets(), 100);
}

// However long a cluster is gone, it is knocked at ever more seldom, nobody calling.
TEST(RedisClusterFaultsTest, AClusterThatIsGoneIsAskedEverMoreSeldom) {
  std::atomic<int> refreshes = 0;
  const ScriptedServer server([&](const std::vector<std::string>& command) -> std::string {
    if (command[0] == "PING") return "+PONG\r\n";
    ++refreshes;
    return "-CLUSTERDOWN it is gone\r\n";
  });
  const auto client = RedisClient::Create({.host = "127.0.0.1",
                                           .port = server.port(),
                                           .cluster = true,
                                           .timeouts = Patient(absl::Seconds(10)),
                                           .first_backoff = absl::Milliseconds(1),
                                           .max_backoff = absl::Hours(1)});
  RedisCluster::AwaitTrue([&] { return refreshes > 0; });
  absl::SleepFor(absl::Seconds(1));
  // Half an hour of pauses that double, each refresh asking twice, as the address is a seed, too.
  EXPECT_LE(refreshes, 2 * 22);
}

// Answers to CLUSTER SLOTS are hostile.
TEST(RedisTopologyTest, NonsenseIsAnError) {
  using Kind = RedisReply::Kind;
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const std::function<RedisReply(int)> any = [&](int depth) {
    RedisReply reply;
    reply.kind = static_cast<Kind>(random() % (depth > 0 ? 4 : 3));
    const int64_t integers[] = {-1, 0, 1, 16383, 16384, 65535, 65536, int64_t{1} << 62};
    if (reply.kind == Kind::kInteger) reply.integer = integers[random() % std::size(integers)];
    if (reply.kind == Kind::kText) reply.text = std::string(random() % 3, '?');
    for (unsigned n = reply.kind == Kind::kArray ? random() % 5 : 0; n > 0; --n) {
      reply.elements.push_back(any(depth - 1));
    }
    return reply;
  };
  for (int i = 0; i < 20'000; ++i) {
    const auto topology = ParseRedisTopology(any(4), {"host", 1});
    if (!topology.ok()) continue;
    ASSERT_EQ(topology->owner_of_slot.size(), static_cast<size_t>(kRedisSlots));
    ASSERT_LE(topology->nodes.size(), RedisTopology::kMaxNodes);
    for (const int owner : topology->owner_of_slot) {
      ASSERT_LT(owner, static_cast<int>(topology->masters));
    }
  }
}

TEST(RedisTopologyTest, TakesTheAskedNodeForHostsLeftOut) {
  const auto integer = [](int64_t value) {
    return RedisReply{.kind = RedisReply::Kind::kInteger, .integer = value};
  };
  const RedisReply node{.kind = RedisReply::Kind::kArray,
                        .elements = {RedisReply{.kind = RedisReply::Kind::kText}, integer(7000)}};
  const RedisReply entry{.kind = RedisReply::Kind::kArray,
                         .elements = {integer(5), integer(9), node}};
  const auto topology =
      ParseRedisTopology({.kind = RedisReply::Kind::kArray, .elements = {entry}}, {"asked", 1});
  ASSERT_TRUE(topology.ok()) << topology.status();
  EXPECT_EQ(topology->nodes[0].ToString(), "asked:7000");
  EXPECT_EQ(topology->owner_of_slot[4], -1);
  EXPECT_EQ(topology->owner_of_slot[5], 0);
  EXPECT_EQ(topology->owner_of_slot[9], 0);
  EXPECT_EQ(topology->owner_of_slot[10], -1);
}

}  // namespace
}  // namespace octogate
