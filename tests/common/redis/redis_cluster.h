// A real Redis Cluster of three masters, each with a replica, for tests.
#ifndef OCTOGATE_TESTS_COMMON_REDIS_REDIS_CLUSTER_H_
#define OCTOGATE_TESTS_COMMON_REDIS_REDIS_CLUSTER_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/common/redis/redis_server.h"

namespace octogate {

// A port that nobody has right now, and that no system gives to whoever asks for any.
inline int FreePort() {
  static std::mt19937 random(std::random_device{}());
  for (;;) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(10'000 + random() % 20'000));
    const bool free = ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    ::close(fd);
    if (free) return ntohs(address.sin_port);
  }
}

class RedisCluster {
 public:
  static constexpr int kMasters = 3;

  struct Node {
    int port = 0;
    std::unique_ptr<RedisServer> server;
    std::unique_ptr<RedisClient> client;  // of this node alone, over its socket
    std::string id;
  };

  // A node that has not been heard of for `node_timeout_ms` counts as dead: short where one is to
  // die, long where all are to live on a busy machine.
  explicit RedisCluster(int node_timeout_ms = 30'000) : nodes_(2 * kMasters) {
    for (Node& node : nodes_) {
      node.port = FreePort();
      int bus_port = FreePort();
      while (bus_port == node.port) bus_port = FreePort();
      node.server = std::make_unique<RedisServer>(std::vector<std::string>{
          "--port", std::to_string(node.port), "--bind", "127.0.0.1", "--cluster-enabled", "yes",
          "--cluster-port", std::to_string(bus_port), "--cluster-node-timeout",
          std::to_string(node_timeout_ms), "--cluster-replica-validity-factor", "0", "--appendonly",
          "yes", "--save", ""});
      RedisOptions alone = node.server->options();
      alone.connections = 1;  // on which WAIT is about what was asked before
      node.client = RedisClient::Create(std::move(alone));
      node.id = Ask(node, {"CLUSTER", "MYID"}).text;
    }
    for (int i = 0; i < kMasters; ++i) {
      Ask(nodes_[i], {"CLUSTER", "SET-CONFIG-EPOCH", std::to_string(i + 1)});
      Ask(nodes_[i],
          {"CLUSTER", "ADDSLOTSRANGE", std::to_string(First(i)), std::to_string(First(i + 1) - 1)});
    }
    for (size_t i = 1; i < nodes_.size(); ++i) {
      Ask(nodes_[i],
          {"CLUSTER", "MEET", "127.0.0.1", std::to_string(nodes_[0].port), BusPort(nodes_[0])});
    }
    for (int i = 0; i < kMasters; ++i) {
      Node& replica = nodes_[kMasters + i];
      const std::string& master = nodes_[i].id;
      // Once it has heard of its master.
      AwaitTrue([&] {
        return replica.client->Call({"CLUSTER", "REPLICATE", master}, Soon()).ok();
      });
    }
    AwaitTrue([&] {
      for (int i = 0; i < kMasters; ++i) {
        if (Info(nodes_[i], "cluster_state") != "ok") return false;
        if (!absl::StrContains(Ask(nodes_[kMasters + i], {"INFO", "replication"}).text,
                               "master_link_status:up")) {
          return false;
        }
      }
      for (const Node& node : nodes_) {
        // Everyone knows who replicates whom: only then a failure can be mended.
        const std::string known = Ask(node, {"CLUSTER", "NODES"}).text;
        for (const char* trouble : {"disconnected", "handshake"}) {
          if (absl::StrContains(known, trouble)) return false;
        }
        for (int i = 0; i < kMasters; ++i) {
          if (!absl::StrContains(known, absl::StrCat("slave ", nodes_[i].id))) return false;
        }
      }
      return true;
    });
  }

  // The master of a slot as it was made.
  static int MasterOf(int slot) {
    int master = 0;
    while (slot >= First(master + 1)) ++master;
    return master;
  }
  // The first masters, then their replicas in the same order.
  Node& node(int i) { return nodes_[static_cast<size_t>(i)]; }

  // How to reach it, through all nodes.
  RedisOptions options() const {
    RedisOptions options{.host = "127.0.0.1",
                         .port = nodes_[0].port,
                         .cluster = true,
                         .timeouts = Patient(absl::Seconds(10)),
                         .max_backoff = absl::Milliseconds(200)};
    for (size_t i = 1; i < nodes_.size(); ++i) {
      options.more_nodes.push_back({"127.0.0.1", nodes_[i].port});
    }
    return options;
  }

  // Until what was written before is at the replicas, too.
  void AwaitReplicas() {
    for (int i = 0; i < kMasters; ++i) {
      // WAIT is about what a server had written when this connection asked it something last.
      Ask(node(i), {"PING"});
      AwaitTrue([&] { return Ask(node(i), {"WAIT", "1", "1000"}).integer >= 1; });
    }
  }

  static absl::Time Soon() { return absl::Now() + absl::Seconds(60); }
  static void AwaitTrue(const std::function<bool()>& holds) {
    const absl::Time give_up = absl::Now() + absl::Seconds(120);
    while (!holds()) {
      ASSERT_LT(absl::Now(), give_up);
      absl::SleepFor(absl::Milliseconds(50));
    }
  }
  static RedisReply Ask(const Node& node, std::initializer_list<std::string_view> command) {
    const auto reply = node.client->Call(command, Soon());
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.value_or(RedisReply());
  }

 private:
  static int First(int master) { return (16384 * master + kMasters - 1) / kMasters; }
  static std::string BusPort(const Node& node) {
    return RedisCluster::Ask(node, {"CONFIG", "GET", "cluster-port"}).elements[1].text;
  }
  static std::string Info(const Node& node, const std::string& name) {
    const std::string text = Ask(node, {"CLUSTER", "INFO"}).text;
    const size_t at = text.find(name + ":");
    if (at == std::string::npos) return "";
    const size_t begin = at + name.size() + 1;
    return text.substr(begin, text.find_first_of("\r\n", begin) - begin);
  }

  std::vector<Node> nodes_;
};

}  // namespace octogate

#endif  // OCTOGATE_TESTS_COMMON_REDIS_REDIS_CLUSTER_H_
