// A client of a Redis server, or of a Redis Cluster (redis_cluster.h): commands from any thread,
// pipelined over a few connections.
//
//   auto client = RedisClient::Create(*ParseRedisUrl("redis://cache:6379/0"));
//   absl::StatusOr<RedisReply> reply = client->Call({"GET", key}, deadline);
//
// One thread owns the connections and connects again whenever one is lost. It
// takes from hiredis how to connect, and reads answers itself (resp.h). A call waits until its
// deadline at most. Where the server refuses connections, or is silent for longer than the calls
// under way can stand (RedisTimeouts), all calls fail at once with UNAVAILABLE, while the client
// knocks again after times that double, with jitter, from `first_backoff` to `max_backoff`: a
// server that is gone or frozen costs its callers one timeout, not one each.
//
// Codes: UNAVAILABLE as above, for a connection that broke under the call (which may or may not
// have been executed), and for a server that is loading or a replica; DEADLINE_EXCEEDED;
// RESOURCE_EXHAUSTED where `max_pending_bytes` wait already or the server is out of memory;
// PERMISSION_DENIED where the user may not do this (where it is refused altogether, the server
// cannot be used, and that is UNAVAILABLE); FAILED_PRECONDITION where it is one of a cluster and
// was not given as such; INTERNAL with the server's words for other errors.
//
// Thread safety: every method may be called from any thread.
#ifndef OCTOGATE_COMMON_REDIS_REDIS_CLIENT_H_
#define OCTOGATE_COMMON_REDIS_REDIS_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/redis/checked_value.h"

namespace octogate {

struct RedisAddress {
  std::string host;
  int port = 6379;

  std::string ToString() const;
};

// What a call is about.
enum class RedisCallKind {
  kSmall,  // a value, or what a query waits for; who has which slot of a cluster
  kBulk,   // many values at once, records, pages of keys and values
  kAdmin,  // a server's settings, at a start
};

// For how long a server may be silent before it counts as frozen: from the last byte that came or
// went while the answer to a call of that kind is awaited. Where calls of several kinds are under
// way, the shortest of their times holds, for all of them.
struct RedisTimeouts {
  absl::Duration connect = absl::Seconds(1);  // until a new connection's server has said PONG
  absl::Duration small = absl::Milliseconds(500);
  // Nobody's answer hangs on these alone, and to do them again is dear.
  absl::Duration bulk = absl::Seconds(1);
  absl::Duration admin = absl::Seconds(2);
  // A subscription over which nothing has come for `sign_of_life` is asked whether it lives, and
  // has `notification` to say so.
  absl::Duration sign_of_life = absl::Seconds(5);
  absl::Duration notification = absl::Milliseconds(500);
};

// Until when a call is waited for, and what it is about. Made from a time of the wall clock, which
// may be set while calls on these terms are under way, or between them: they last as long.
struct RedisTerms {
  // NOLINTNEXTLINE(google-explicit-constructor): most calls are small ones.
  RedisTerms(absl::Time its_deadline, RedisCallKind its_kind = RedisCallKind::kSmall)
      : steady_deadline(ToSteady(its_deadline)), kind(its_kind) {}
  absl::Time steady_deadline;  // by SteadyNow()
  RedisCallKind kind;
};

struct RedisOptions {
  std::string host = "127.0.0.1";
  int port = 6379;
  std::string unix_socket;  // in place of host and port
  std::string username;     // of an ACL; empty: the default user
  std::string password;     // empty: none is sent
  int database = 0;
  bool cluster = false;
  std::vector<RedisAddress> more_nodes;  // of a cluster, beside host and port
  int connections = 2;                   // to each server
  RedisTimeouts timeouts;
  absl::Duration first_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(5);
  // After which a cluster in which nothing suggests a change is asked all the same who has which
  // slots.
  absl::Duration topology_interval = absl::Minutes(1);
  // Of commands that have no answer yet.
  size_t max_pending_bytes = size_t{64} << 20;
  // A connection that sends a longer answer is closed.
  size_t max_reply_bytes = size_t{64} << 20;
};

// "redis://[USER@]HOST[:PORT][/DATABASE]", "redis+cluster://[USER@]HOST[:PORT][,HOST[:PORT]]…" or
// "unix:PATH". INVALID_ARGUMENT with what is wrong; a password has no place in it, since addresses
// are logged. TLS ("rediss://") is refused, as Debian 12's hiredis (0.14) has none: a proxy has to.
absl::StatusOr<RedisOptions> ParseRedisUrl(std::string_view url);

struct RedisReply {
  enum class Kind { kNil, kText, kInteger, kArray, kError };
  Kind kind = Kind::kNil;  // No call returns an error as a reply: it is a status.
  std::string text;        // also of statuses, such as "OK"
  int64_t integer = 0;
  std::vector<RedisReply> elements;
};

// Ends when it is destroyed: nothing is called any more then.
class RedisSubscription {
 public:
  virtual ~RedisSubscription() = default;
};

// An argument of a command, of any bytes, which are another's.
struct RedisArgument {
  template <typename Text>
  requires std::is_convertible_v<const Text&, std::string_view>
  // NOLINTNEXTLINE(google-explicit-constructor): a command is written as a list of texts.
  RedisArgument(const Text& its_text) : text(its_text) {}
  // A value and its trailer, which is made when the value is sent. The seal outlives the command.
  static RedisArgument Sealed(RedisSeal& seal) {
    RedisArgument argument(seal.value());
    argument.seal = &seal;
    return argument;
  }
  size_t size() const { return text.size() + (seal == nullptr ? 0 : kRedisTrailerBytes); }

  std::string_view text;
  RedisSeal* seal = nullptr;
};

class RedisClient {
 public:
  // Connects behind; no server need be there yet.
  static std::unique_ptr<RedisClient> Create(RedisOptions options);
  virtual ~RedisClient() = default;

  // Sends a command with binary-safe arguments and waits for the answer. Like all calls it sends
  // large arguments from where they are, where nobody else calls, and never looks at them once it
  // has returned, answered or not.
  virtual absl::StatusOr<RedisReply> Call(std::span<const std::string_view> arguments,
                                          RedisTerms terms) = 0;
  absl::StatusOr<RedisReply> Call(std::initializer_list<std::string_view> arguments,
                                  RedisTerms terms) {
    return Call(std::span(arguments.begin(), arguments.size()), terms);
  }

  // Sends all commands before it waits for an answer, and returns each one's, in their order; they
  // may be executed in another. What would exceed `max_pending_bytes` is sent once earlier ones are
  // answered.
  using Command = std::vector<RedisArgument>;
  virtual std::vector<absl::StatusOr<RedisReply>> CallMany(std::span<const Command> commands,
                                                           RedisTerms terms) = 0;

  // The same for sequences of commands of which each is executed as a whole or not at all (MULTI);
  // all keys of one have the same hash slot. The reply of a sequence of several is the array of its
  // commands' replies.
  using Transaction = std::vector<Command>;
  virtual std::vector<absl::StatusOr<RedisReply>> TransactMany(
      std::span<const Transaction> transactions, RedisTerms terms) = 0;

  // The same for what `make` returns for each number below `count`. It is called once for each, in
  // their order; what it returns lives until it is called again, and what that points to until
  // TransactEach returns. `take` is called once for each answer, in that order. What is made is
  // sent before much more is made, and answers are taken while others are on their way, where that
  // pays: so what it takes to make commands of large values, and to check answers, passes while the
  // server works. Neither may call the client.
  using Make = absl::FunctionRef<std::span<const Command>(size_t)>;
  using Take = absl::FunctionRef<void(size_t, absl::StatusOr<RedisReply>)>;
  virtual void TransactEach(size_t count, Make make, Take take, RedisTerms terms) = 0;

  // Sends a command to every server that has keys: to the one, or to all masters of a cluster.
  struct ServerReply {
    std::string server;  // "Redis at HOST:PORT"
    absl::StatusOr<RedisReply> reply;
  };
  virtual std::vector<ServerReply> CallServers(const Command& command, RedisTerms terms) = 0;

  // Has `on_message` called, by a thread of the client's own, for every message on the channel and
  // whenever it has been subscribed to, which may be again, with messages missed in between. It
  // must be short, and must not end the subscription. A connection of its own waits for messages,
  // is made again like others, and asked for signs of life.
  virtual std::unique_ptr<RedisSubscription> Subscribe(std::string_view channel,
                                                       std::function<void()> on_message) = 0;

  // What is alike for keys that one server has now, and mostly differs for those of others.
  virtual size_t ShardOf(std::string_view key) const {
    static_cast<void>(key);
    return 0;
  }

  // The server that has a key now. Two that are equal are one server, to which no connection was
  // lost in between; what is known of one says nothing of another.
  struct Shard {
    size_t number = 0;    // as of ShardOf
    uint64_t losses = 0;  // as of Stats, without those of other servers that the cluster has
    bool reachable = false;
    bool operator==(const Shard&) const = default;
  };
  virtual Shard ShardStateOf(std::string_view key) const = 0;

  struct Stats {
    uint64_t calls = 0;
    uint64_t failures = 0;     // other than by an error that the server answered
    uint64_t connections = 0;  // that were made
    // Times that a connection was lost or could not be made, or a server of a cluster went: what it
    // had may be gone.
    uint64_t losses = 0;
    size_t pending_bytes = 0;
    bool reachable = false;  // all of the servers
  };
  virtual Stats stats() const = 0;
};

}  // namespace octogate

#endif  // OCTOGATE_COMMON_REDIS_REDIS_CLIENT_H_
