// One connection to a Redis server, as a node's thread has it (redis_node.h): from connect(2) and
// the greeting to commands on their way and their answers.
//
// Nothing here blocks but looking up the server's name. Where a call returns text, that is what is
// wrong with the connection, which is to be closed then; empty: nothing is.
//
// Not thread-safe.
#ifndef OCTOGATE_COMMON_REDIS_REDIS_CONNECTION_H_
#define OCTOGATE_COMMON_REDIS_REDIS_CONNECTION_H_

#include <array>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/redis/redis_client.h"
#include "common/redis/resp.h"
#include "common/steady_event.h"

struct redisContext;

namespace octogate {

// A command under way, shared by who waits for it and the thread that answers it.
struct RedisCall {
  absl::Time deadline;  // by SteadyNow()
  RedisCallKind kind = RedisCallKind::kSmall;
  size_t bytes = 0;
  size_t answers_before = 0;    // to come before the one that counts: of ASKING, MULTI, QUEUED
  absl::Status refused_before;  // the first error among them
  bool lacked_room = false;     // refused for `max_pending_bytes`
  absl::StatusOr<RedisReply> result = absl::UnknownError("no answer yet");
  SteadyNotification done;
};

class RedisConnection {
 public:
  using CallPtr = std::shared_ptr<RedisCall>;

  // What happens on a connection; called while it reads.
  struct Events {
    std::function<void()> on_ready;    // the server has said PONG
    std::function<void()> on_message;  // of the channel
    std::function<void(const CallPtr&, absl::StatusOr<RedisReply>)> on_answer;
  };

  // `options` and `events` outlive the connection. With a channel it is subscribed to that, and
  // nothing is sent over it.
  RedisConnection(const RedisOptions* options, std::string channel, const Events* events);

  // Begins to connect; only where it is not open.
  std::string Connect();
  // Returns the calls that have no answer. It may be connected again.
  std::deque<CallPtr> Close();

  // Flush sends what can be sent without waiting; poll(2) tells when there is room for more.
  void Send(CallPtr call, std::string bytes);
  std::string Flush();

  // The same of a command in pieces: Begin, then its bytes, some of which may be lent. What was
  // lent is the lender's again when it has been sent, or after Keep or Close, and must stay as it
  // is until then.
  void Begin(CallPtr call);
  void Append(std::string bytes);
  void Lend(std::string_view bytes);
  // Copies what was lent and has not been sent.
  void Keep();

  // What poll(2) is to wait for, and what it has found.
  int descriptor() const;  // -1: not open
  short Wanted() const;
  std::string Handle(short events);

  bool open() const { return context_ != nullptr; }
  bool ready() const { return ready_; }
  size_t in_flight() const { return in_flight_.size(); }
  // Whether it is ready, has been so for a while, and no answer is awaited: a server may close such
  // a one.
  bool Idle(absl::Time now) const;

  // When the server has to have said something (RedisTimeouts). Times are SteadyNow()'s.
  absl::Time AnswerBy() const;
  // Asks who has said nothing by then for a sign of life, where there has been nothing to answer.
  // Whether there is still time for that.
  bool AskForLife(absl::Time now);

 private:
  struct ContextDeleter {
    void operator()(redisContext* context) const;
  };

  // Of a kind of calls.
  struct Awaited {
    size_t calls = 0;  // under way
    absl::Time since;  // the first of them was sent, or before
  };

  bool subscribes() const { return !channel_.empty(); }
  // Bytes to be sent.
  struct Piece {
    std::string own;
    std::string_view lent;  // where `own` is empty

    std::string_view bytes() const { return own.empty() ? lent : own; }
  };

  void Append(std::span<const RedisArgument> arguments);
  std::string Write();
  std::string Read();
  std::string OnReply(RedisReply reply);
  std::string OnMessage(const RedisReply& reply);

  const RedisOptions* options_;
  std::string channel_;
  const Events* events_;

  std::unique_ptr<redisContext, ContextDeleter> context_;  // null: not open
  bool connecting_ = false;                                // by connect(2)
  bool wants_write_ = false;
  bool full_ = false;  // the system had no room for all that was to be sent
  bool ready_ = false;
  absl::Time connect_by_;
  absl::Time ready_since_;
  int greetings_ = 0;    // answers to come before those of calls
  bool pinged_ = false;  // of a subscription: a sign of life is to come
  std::optional<RespReader> reader_;
  // What has not been sent, the first of it but for `sent_` bytes.
  std::deque<Piece> unsent_;
  size_t sent_ = 0;
  // When bytes came last, or when such went that had to wait for room: whatever else is sent shows
  // nothing of the other side.
  absl::Time progress_;
  std::deque<CallPtr> in_flight_;
  std::array<Awaited, 3> awaited_;  // by kind
};

}  // namespace octogate

#endif  // OCTOGATE_COMMON_REDIS_REDIS_CONNECTION_H_
