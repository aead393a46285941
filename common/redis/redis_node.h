// One Redis server and the connections to it: what both clients, of one server and of a cluster,
// are made of.
//
// A thread of the node's own connects, and sends and reads while several calls are under way.
// Whoever calls alone does so by itself while it waits: to be woken by another thread costs more
// than all the rest of a small call.
//
// Thread safety: every method may be called from any thread. None but Await, Wait and Hold::Await
// blocks.
#ifndef OCTOGATE_COMMON_REDIS_REDIS_NODE_H_
#define OCTOGATE_COMMON_REDIS_REDIS_NODE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

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

  // Has its owner, who calls alone, do the thread's work from one call to the next, where that is
  // possible. It must end, or wait, soon: nobody sends or reads for others meanwhile.
  //
  // What it begins is sent while more is begun, as far as that can be done without waiting, and
  // large arguments from where they are: they must stay there until it has ended. At its end what
  // has not been sent of them is copied, so that nothing points to them any more, whether or not
  // the calls have ended.
  class Hold {
   public:
    explicit Hold(RedisNode& node) : node_(node), holds_(node.Borrow()) {}
    ~Hold() { Release(); }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

    bool holds() const { return holds_; }
    // As of the node.
    std::shared_ptr<RedisCall> Begin(std::span<const RedisClient::Command> commands, How how,
                                     RedisTerms terms) {
      return holds_ ? node_.BeginHeld(commands, how, terms) : node_.Begin(commands, how, terms);
    }
    // As of the node; does not hold it any more where the thread has to connect again.
    void Await(RedisCall& call) {
      if (holds_ && !node_.AwaitHeld(call)) Release();
      if (!holds_) node_.Await(call);
    }

   private:
    void Release() {
      if (std::exchange(holds_, false)) node_.Return();
    }

    RedisNode& node_;
    bool holds_;
  };

  // Awaits the answer and returns it. Once for each call.
  absl::StatusOr<RedisReply> Wait(RedisCall& call);

  virtual uint64_t connections() const = 0;  // that were made
  virtual uint64_t losses() const = 0;       // as RedisClient::Stats has them
  virtual size_t pending_bytes() const = 0;
  virtual bool reachable() const = 0;

 private:
  // Of Hold: whether the caller has the connections now, until Return.
  virtual bool Borrow() = 0;
  virtual void Return() = 0;
  virtual std::shared_ptr<RedisCall> BeginHeld(std::span<const RedisClient::Command> commands,
                                               How how, RedisTerms terms) = 0;
  // Whether the call has ended.
  virtual bool AwaitHeld(RedisCall& call) = 0;
};

}  // namespace octogate

#endif  // OCTOGATE_COMMON_REDIS_REDIS_NODE_H_
