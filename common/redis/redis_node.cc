#include "common/redis/redis_node.h"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <deque>
#include <iterator>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/redis/resp.h"
#include "common/strings.h"

namespace octogate {
namespace {

std::string Encode(std::span<const RedisClient::Command> commands, bool asking) {
  static const RedisArgument kAsking[] = {"ASKING"};
  static const RedisArgument kMulti[] = {"MULTI"};
  static const RedisArgument kExec[] = {"EXEC"};
  std::string bytes;
  if (asking) AppendRespCommand(kAsking, &bytes);
  if (commands.size() > 1) AppendRespCommand(kMulti, &bytes);
  for (const RedisClient::Command& command : commands) AppendRespCommand(command, &bytes);
  if (commands.size() > 1) AppendRespCommand(kExec, &bytes);
  return bytes;
}

absl::Status ErrorOf(std::string_view words) {
  const auto begins = [words](const char* prefix) {
    return absl::StartsWith(ToAbsl(words), prefix);
  };
  const std::string message = absl::StrCat("Redis answers ", Quoted(words, 200));
  if (begins("OOM")) return absl::ResourceExhaustedError(message);
  if (begins("NOAUTH") || begins("NOPERM") || begins("WRONGPASS") || begins("ERR invalid pass")) {
    return absl::PermissionDeniedError(message);
  }
  for (const char* prefix : {"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY",
                             "NOREPLICAS", "MISCONF"}) {
    if (begins(prefix)) return absl::UnavailableError(message);
  }
  if (begins("MOVED ") || begins("ASK ")) {
    absl::Status status = absl::FailedPreconditionError(
        absl::StrCat(message, "; it is part of a cluster, whose address begins redis+cluster://"));
    status.SetPayload(kRedisRedirect, absl::Cord(ToAbsl(words)));
    return status;
  }
  return absl::InternalError(message);
}

absl::StatusOr<RedisReply> ResultOf(RedisReply reply) {
  if (reply.kind == RedisReply::Kind::kError) return ErrorOf(reply.text);
  for (const RedisReply& element : reply.elements) {
    if (element.kind == RedisReply::Kind::kError) return ErrorOf(element.text);
  }
  return reply;
}

struct Command {
  std::string bytes;
  std::shared_ptr<RedisCall> pending;
};

struct ContextDeleter {
  void operator()(redisContext* context) const { redisFree(context); }
};

struct Connection {
  std::unique_ptr<redisContext, ContextDeleter> context;  // null: not connected
  bool connecting = false;                                // by connect(2)
  bool wants_write = false;
  bool ready = false;  // the server has said PONG
  absl::Time connect_by;
  absl::Time ready_since;
  int greetings = 0;    // answers to come before those of calls
  bool pinged = false;  // of a subscription: a sign of life is to come
  std::optional<RespReader> reader;
  // Commands that have not been sent, the first of them but for `sent` bytes.
  std::deque<std::string> unsent;
  size_t sent = 0;
  absl::Time progress;  // when bytes came or went last
  std::deque<std::shared_ptr<RedisCall>> in_flight;
};

class Node final : public RedisNode {
 public:
  Node(RedisOptions options, Subscription subscription)
      : options_(std::move(options)),
        subscription_(std::move(subscription)),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        connections_(subscribes() ? 1 : static_cast<size_t>(std::max(options_.connections, 1))) {
    thread_ = std::thread([this] { Run(); });
  }

  ~Node() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    Wake();
    thread_.join();
    ::close(wake_);
  }

  std::shared_ptr<RedisCall> Begin(std::span<const RedisClient::Command> commands, bool asking,
                                   absl::Time deadline) override {
    Command command{.bytes = Encode(commands, asking), .pending = std::make_shared<RedisCall>()};
    std::shared_ptr<RedisCall> pending = command.pending;
    pending->deadline = deadline;
    pending->bytes = command.bytes.size();
    pending->answers_before = (asking ? 1 : 0) + (commands.size() > 1 ? 1 + commands.size() : 0);
    const absl::Status queued = Enqueue(std::move(command));
    if (queued.ok()) {
      Wake();
    } else {
      pending->result = queued;
      pending->done.Notify();
    }
    return pending;
  }

  uint64_t connections() const override { return connects_.load(std::memory_order_relaxed); }
  size_t pending_bytes() const override {
    absl::MutexLock lock(&mutex_);
    return pending_bytes_;
  }
  bool reachable() const override {
    absl::MutexLock lock(&mutex_);
    return refusal_.ok();
  }

 private:
  absl::Status Enqueue(Command command) {
    if (absl::Now() >= command.pending->deadline) {
      return absl::DeadlineExceededError("the deadline has passed");
    }
    absl::MutexLock lock(&mutex_);
    if (!refusal_.ok()) return refusal_;
    if (pending_bytes_ + command.pending->bytes > options_.max_pending_bytes) {
      command.pending->lacked_room = true;
      return absl::ResourceExhaustedError(
          absl::StrCat(pending_bytes_, " bytes wait for Redis already"));
    }
    pending_bytes_ += command.pending->bytes;
    queue_.push_back(std::move(command));
    return absl::OkStatus();
  }

  void Wake() {
    const uint64_t one = 1;
    // Full means that it is awake.
    static_cast<void>(!::write(wake_, &one, sizeof one));
  }

  // From here on: the client's thread.

  void Finish(const std::shared_ptr<RedisCall>& pending, absl::StatusOr<RedisReply> result) {
    {
      absl::MutexLock lock(&mutex_);
      pending_bytes_ -= pending->bytes;
    }
    pending->result = std::move(result);
    pending->done.Notify();
  }

  bool subscribes() const { return !subscription_.channel.empty(); }

  bool AnyReady() const {
    return std::any_of(connections_.begin(), connections_.end(),
                       [](const Connection& connection) { return connection.ready; });
  }

  // Lets the server be for a while.
  void Refuse(std::string_view why) {
    const absl::Status status =
        absl::UnavailableError(absl::StrCat(Address(), ": ", ToAbsl(why), "; trying again"));
    backoff_ = failed_ ? std::min(2 * backoff_, options_.max_backoff) : options_.first_backoff;
    failed_ = true;
    const double share = std::uniform_real_distribution<double>(0.5, 1)(random_);
    connect_at_ = absl::Now() + share * backoff_;
    if (AnyReady()) return;
    std::deque<Command> refused;
    {
      absl::MutexLock lock(&mutex_);
      refusal_ = status;
      refused.swap(queue_);
    }
    while (!waiting_.empty()) {
      refused.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
    for (const Command& command : refused) Finish(command.pending, status);
  }

  std::string Address() const {
    return options_.unix_socket.empty()
               ? absl::StrCat("Redis at ", options_.host, ":", options_.port)
               : absl::StrCat("Redis at ", options_.unix_socket);
  }

  void Connect(Connection& connection) {
    connection.context.reset(options_.unix_socket.empty()
                                 ? redisConnectNonBlock(options_.host.c_str(), options_.port)
                                 : redisConnectUnixNonBlock(options_.unix_socket.c_str()));
    redisContext* const context = connection.context.get();
    if (context == nullptr || context->err != 0) {
      Drop(connection, context == nullptr ? "no memory" : context->errstr);
      return;
    }
    connects_.fetch_add(1, std::memory_order_relaxed);
    connection.reader.emplace(options_.max_reply_bytes);
    connection.connecting = true;
    connection.connect_by = absl::Now() + options_.connect_timeout;
    const auto greet = [&](std::initializer_list<RedisArgument> arguments) {
      Append(connection, std::span(arguments.begin(), arguments.size()));
      ++connection.greetings;
    };
    if (!options_.password.empty() && !options_.username.empty()) {
      greet({"AUTH", options_.username, options_.password});
    } else if (!options_.password.empty()) {
      greet({"AUTH", options_.password});
    }
    if (options_.database != 0) greet({"SELECT", std::to_string(options_.database)});
    greet({"PING"});
    if (subscribes()) greet({"SUBSCRIBE", subscription_.channel});
    connection.pinged = false;
  }

  static void Append(Connection& connection, std::span<const RedisArgument> arguments) {
    std::string bytes;
    AppendRespCommand(arguments, &bytes);
    Append(connection, std::move(bytes));
  }
  static void Append(Connection& connection, std::string bytes) {
    connection.unsent.push_back(std::move(bytes));
    connection.wants_write = true;
  }

  void OnReady(Connection& connection) {
    connection.ready = true;
    connection.ready_since = absl::Now();
    failed_ = false;
    {
      absl::MutexLock lock(&mutex_);
      refusal_ = absl::OkStatus();
    }
    if (subscribes()) subscription_.on_message();
  }

  // An answer to a subscription: a message, or the sign of life that it was asked for.
  std::string OnMessage(Connection& connection, const RedisReply& reply) {
    if (reply.elements.size() >= 2) {
      const std::string& kind = reply.elements[0].text;
      if (kind == "message") {
        subscription_.on_message();
        return "";
      }
      if (kind == "pong" && connection.pinged) {
        connection.pinged = false;
        return "";
      }
    }
    return "it sends what is no message";
  }

  // What is wrong with the connection, if anything is.
  std::string OnReply(Connection& connection, RedisReply reply) {
    if (connection.greetings > 0) {
      if (reply.kind == RedisReply::Kind::kError) {
        // A server that does not know AUTH repeats what it was told.
        std::string words = std::move(reply.text);
        if (!options_.password.empty()) {
          words = absl::StrReplaceAll(words, {{options_.password, "***"}});
        }
        return std::string(ErrorOf(words).message());
      }
      if (--connection.greetings == 0) OnReady(connection);
      return "";
    }
    if (subscribes()) return OnMessage(connection, reply);
    if (connection.in_flight.empty()) return "it answers what nobody has asked";
    RedisCall& first = *connection.in_flight.front();
    if (first.answers_before > 0) {
      --first.answers_before;
      if (reply.kind == RedisReply::Kind::kError && first.refused_before.ok()) {
        first.refused_before = ErrorOf(reply.text);
      }
      return "";
    }
    const std::shared_ptr<RedisCall> pending = std::move(connection.in_flight.front());
    connection.in_flight.pop_front();
    if (!connection.in_flight.empty()) connection.in_flight.front()->sent = absl::Now();
    if (pending->refused_before.ok()) {
      Finish(pending, ResultOf(std::move(reply)));
    } else {
      Finish(pending, pending->refused_before);
    }
    return "";
  }

  // The connection is gone, or goes now.
  void Drop(Connection& connection, std::string_view why) {
    const std::string reason(why);  // it may be the connection's
    // A server may close a connection that nobody uses, but not right away.
    const bool was_idle = connection.ready && connection.in_flight.empty() &&
                          absl::Now() - connection.ready_since > options_.connect_timeout;
    std::deque<std::shared_ptr<RedisCall>> lost = Close(connection);
    if (!was_idle) Refuse(reason);
    Fail(lost, reason);
  }

  // The server is frozen, or the way to it is: no call need find that out on another connection.
  void DropAll(const std::string& why) {
    std::deque<std::shared_ptr<RedisCall>> lost;
    for (Connection& connection : connections_) {
      std::deque<std::shared_ptr<RedisCall>> part = Close(connection);
      std::move(part.begin(), part.end(), std::back_inserter(lost));
    }
    Refuse(why);
    Fail(lost, why);
  }

  static std::deque<std::shared_ptr<RedisCall>> Close(Connection& connection) {
    connection.context.reset();
    connection.connecting = connection.wants_write = connection.ready = false;
    connection.greetings = 0;
    connection.unsent.clear();
    connection.sent = 0;
    return std::exchange(connection.in_flight, {});
  }

  void Fail(const std::deque<std::shared_ptr<RedisCall>>& lost, const std::string& why) {
    const absl::Status status = absl::UnavailableError(absl::StrCat(Address(), ": ", why));
    for (const std::shared_ptr<RedisCall>& pending : lost) Finish(pending, status);
  }

  void Distribute() {
    while (!waiting_.empty()) {
      Connection* best = nullptr;
      for (Connection& connection : connections_) {
        if (!connection.ready) continue;
        if (best == nullptr || connection.in_flight.size() < best->in_flight.size()) {
          best = &connection;
        }
      }
      if (best == nullptr) return;
      Command command = std::move(waiting_.front());
      waiting_.pop_front();
      command.pending->sent = absl::Now();
      // Who asked may be gone: what it asked for happens all the same, or not at all.
      if (command.pending->sent >= command.pending->deadline) {
        Finish(command.pending, absl::DeadlineExceededError("the deadline has passed"));
        continue;
      }
      best->in_flight.push_back(command.pending);
      Append(*best, std::move(command.bytes));
    }
  }

  absl::Time AnswerBy(const Connection& connection) const {
    if (!connection.ready) return connection.connect_by;
    if (subscribes()) {
      return connection.progress +
             (connection.pinged ? options_.answer_timeout : options_.sign_of_life);
    }
    if (connection.in_flight.empty()) return absl::InfiniteFuture();
    return std::max(connection.in_flight.front()->sent, connection.progress) +
           options_.answer_timeout;
  }

  // Connects where nothing is, and gives up what does not answer. Returns when to look again.
  absl::Time Tend() {
    const absl::Time now = absl::Now();
    bool connected = false;
    for (Connection& connection : connections_) {
      if (connection.context != nullptr || now < connect_at_) continue;
      Connect(connection);
      connected = true;
    }
    // Looking up a name may have taken long, while answers came that nobody has read yet.
    if (connected) return now;
    for (Connection& connection : connections_) {
      if (connection.context == nullptr || now < AnswerBy(connection)) continue;
      if (subscribes() && connection.ready && !connection.pinged) {
        static const RedisArgument kPing[] = {"PING"};
        Append(connection, kPing);
        connection.pinged = true;
        connection.progress = now;
        continue;
      }
      if (connection.ready || !AnyReady()) {
        DropAll("it does not answer");
      } else {
        Drop(connection, "it does not answer");
      }
    }
    absl::Time next = now + absl::Seconds(1);
    for (const Connection& connection : connections_) {
      next = std::min(next, connection.context == nullptr ? connect_at_ : AnswerBy(connection));
    }
    while (!waiting_.empty() && waiting_.front().pending->deadline <= now) {
      Finish(waiting_.front().pending, absl::DeadlineExceededError("the deadline has passed"));
      waiting_.pop_front();
    }
    return next;
  }

  // What is wrong with the connection, if anything is.
  std::string Write(Connection& connection) {
    if (connection.connecting) {
      int error = 0;
      socklen_t size = sizeof error;
      ::getsockopt(connection.context->fd, SOL_SOCKET, SO_ERROR, &error, &size);
      if (error != 0) return ::strerrordesc_np(error);
      connection.connecting = false;
    }
    connection.progress = absl::Now();
    std::array<iovec, 64> parts;
    while (!connection.unsent.empty()) {
      size_t count = 0;
      for (; count < parts.size() && count < connection.unsent.size(); ++count) {
        std::string& command = connection.unsent[count];
        const size_t sent = count == 0 ? connection.sent : 0;
        parts[count] = {.iov_base = command.data() + sent, .iov_len = command.size() - sent};
      }
      const msghdr message{.msg_iov = parts.data(), .msg_iovlen = count};
      const ssize_t sent = ::sendmsg(connection.context->fd, &message, MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && errno == EAGAIN) break;
      if (sent < 0) return ::strerrordesc_np(errno);
      connection.sent += static_cast<size_t>(sent);
      while (!connection.unsent.empty() && connection.sent >= connection.unsent.front().size()) {
        connection.sent -= connection.unsent.front().size();
        connection.unsent.pop_front();
      }
    }
    connection.wants_write = !connection.unsent.empty();
    return "";
  }

  std::string Read(Connection& connection) {
    redisContext* const context = connection.context.get();
    std::array<iovec, 2> space = connection.reader->Space();
    msghdr message{};
    message.msg_iov = space.data();
    message.msg_iovlen = space.size();
    const ssize_t size = ::recvmsg(context->fd, &message, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return "";
    if (size < 0) return ::strerrordesc_np(errno);
    if (size == 0) return "it has closed the connection";
    if (connection.greetings == 0 && connection.in_flight.empty() && !subscribes()) {
      return "it answers what nobody has asked";
    }
    connection.progress = absl::Now();
    const absl::Status read = connection.reader->Came(static_cast<size_t>(size));
    while (std::optional<RedisReply> reply = connection.reader->Next()) {
      std::string wrong = OnReply(connection, *std::move(reply));
      if (!wrong.empty()) return wrong;
    }
    return std::string(read.message());
  }

  void Handle(Connection& connection, short events) {
    std::string wrong;
    if ((events & (POLLOUT | POLLERR)) != 0) wrong = Write(connection);
    if (wrong.empty() && (events & (POLLIN | POLLHUP)) != 0) wrong = Read(connection);
    if (!wrong.empty()) Drop(connection, wrong);
  }

  void Run() {
    // A connection that breaks while it is written to is an error, no signal.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    for (;;) {
      {
        absl::MutexLock lock(&mutex_);
        if (stopping_) break;
        std::move(queue_.begin(), queue_.end(), std::back_inserter(waiting_));
        queue_.clear();
      }
      Distribute();
      const absl::Time next = Tend();
      std::vector<pollfd> polled{{.fd = wake_, .events = POLLIN, .revents = 0}};
      for (const Connection& connection : connections_) {
        const int events = connection.connecting    ? POLLOUT
                           : connection.wants_write ? POLLIN | POLLOUT
                                                    : POLLIN;
        polled.push_back({.fd = connection.context == nullptr ? -1 : connection.context->fd,
                          .events = static_cast<short>(events),
                          .revents = 0});
      }
      const int64_t wait = absl::ToInt64Milliseconds(next - absl::Now()) + 1;
      ::poll(polled.data(), polled.size(), static_cast<int>(std::clamp<int64_t>(wait, 0, 1000)));
      uint64_t count = 0;
      static_cast<void>(!::read(wake_, &count, sizeof count));
      for (size_t i = 0; i < connections_.size(); ++i) {
        if (polled[i + 1].revents != 0) Handle(connections_[i], polled[i + 1].revents);
      }
    }
    const absl::Status ended = absl::CancelledError("the client of Redis has ended");
    for (Connection& connection : connections_) connection.ready = false;
    Refuse("the client has ended");
    for (Connection& connection : connections_) {
      for (const std::shared_ptr<RedisCall>& pending : connection.in_flight) Finish(pending, ended);
    }
  }

  const RedisOptions options_;
  const Subscription subscription_;
  const int wake_;
  std::atomic<uint64_t> connects_{0};

  mutable absl::Mutex mutex_;
  std::deque<Command> queue_ ABSL_GUARDED_BY(mutex_);
  size_t pending_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status refusal_ ABSL_GUARDED_BY(mutex_);  // what calls are told while it is not OK
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // The thread's.
  std::vector<Connection> connections_;
  std::deque<Command> waiting_;
  bool failed_ = false;  // since it was ready last
  absl::Duration backoff_;
  absl::Time connect_at_ = absl::InfinitePast();
  std::mt19937_64 random_{std::random_device{}()};
  std::thread thread_;
};

}  // namespace

std::unique_ptr<RedisNode> RedisNode::Create(RedisOptions options, Subscription subscription) {
  return std::make_unique<Node>(std::move(options), std::move(subscription));
}

absl::StatusOr<RedisReply> RedisNode::Wait(RedisCall& call) {
  if (!call.done.WaitForNotificationWithDeadline(call.deadline)) {
    return absl::DeadlineExceededError("Redis has not answered in time");
  }
  return std::move(call.result);
}

bool IsRedisFailure(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

}  // namespace octogate
