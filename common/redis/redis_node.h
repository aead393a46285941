// One Redis server and the connections to it: what both clients, of one server and of a cluster,
// are made of.
//
// A thread of the node's own connects, and sends and reads while several calls are under way.
// Whoever calls alone does so by itself while it waits: to be woken by another thread costs more
// than all the rest of a small call.
//
// Thread safety: every method may be called from any thread. None but Await and Wait blocks.
#ifndef OCTOGATE_COMMON_REDIS_REDIS_NODE_H_
#define OCTOGATE_COMMON_REDIS_REDIS_NODE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/redis/redis_client.h"
#include "common/redis/redis_connection.h"

namespace octogate {

// How messages name the server: "Redis at HOST:PORT".
std::string RedisServerName(const RedisOptions& options);

class RedisNode {
 public:
  // Called by the node's thread: must be short, and not end the node.
  struct Subscription {
    std::string channel;
    // For every message, and whenever the channel has been subscribed to: messages may have been
    // missed before.
    std::function<void()> on_message;
  };

  // Connects behind. With a subscription, of a channel that is not empty, nothing can be called:
  // one connection waits for messages, and is asked for a sign of life now and then.
  static std::unique_ptr<RedisNode> Create(RedisOptions options, Subscription subscription = {});
  // Ends all calls under way, which nobody may wait for any more.
  virtual ~RedisNode() = default;

  // Sends a command, or several as a transaction. The call may be at its end already.
  struct How {
    bool asking = false;  // as a cluster that moves a slot wants it after ASK
    bool more = false;    // others follow at once: small ones are sent together with these
    bool waits = false;   // the caller then waits for nothing but calls of this node
  };
  virtual std::shared_ptr<RedisCall> Begin(std::span<const RedisClient::Command> commands, How how,
                                           RedisTerms terms) = 0;
  // Until a call of this node has ended, or its deadline.
  virtual void Await(RedisCall& call) = 0;
  // Awaits the answer and returns it. Once for each call.
  absl::StatusOr<RedisReply> Wait(RedisCall& call);

  virtual uint64_t connections() const = 0;  // that were made
  virtual size_t pending_bytes() const = 0;
  virtual bool reachable() const = 0;
};

}  // namespace octogate

#endif  // OCTOGATE_COMMON_REDIS_REDIS_NODE_H_
