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
#include "common/strings.h"

namespace octogate {
namespace {

// What a command is on the wire: an array of bulk strings.
std::string Encode(std::span<const std::string_view> arguments, bool asking = false) {
  size_t bytes = 64;
  for (const std::string_view argument : arguments) bytes += argument.size() + 32;
  std::string command;
  command.reserve(bytes);
  if (asking) command.append("*1\r\n$6\r\nASKING\r\n");
  absl::StrAppend(&command, "*", arguments.size(), "\r\n");
  for (const std::string_view argument : arguments) {
    absl::StrAppend(&command, "$", argument.size(), "\r\n");
    command.append(argument);
    command.append("\r\n");
  }
  return command;
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

absl::StatusOr<RedisReply> ReplyOf(const redisReply& raw) {
  RedisReply reply;
  switch (raw.type) {
    case REDIS_REPLY_ERROR:
      return ErrorOf({raw.str, raw.len});
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_STRING:
      reply.kind = RedisReply::Kind::kText;
      reply.text.assign(raw.str, raw.len);
      return reply;
    case REDIS_REPLY_INTEGER:
      reply.kind = RedisReply::Kind::kInteger;
      reply.integer = raw.integer;
      return reply;
    case REDIS_REPLY_ARRAY:
      reply.kind = RedisReply::Kind::kArray;
      for (size_t i = 0; i < raw.elements; ++i) {
        absl::StatusOr<RedisReply> element = ReplyOf(*raw.element[i]);
        if (!element.ok()) return element.status();
        reply.elements.push_back(*std::move(element));
      }
      return reply;
    default:
      return reply;
  }
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
  redisReplyObjectFunctions functions;
  bool connecting = false;  // by connect(2)
  bool wants_write = false;
  bool ready = false;  // the server has said PONG
  absl::Time connect_by;
  absl::Time ready_since;
  int greetings = 0;    // answers to come before those of calls
  bool pinged = false;  // of a subscription: a sign of life is to come
  // Of the answer that is being read.
  size_t bytes = 0;
  int64_t elements = 0;
  // Commands that have not been sent, the first of them but for `sent` bytes.
  std::deque<std::string> unsent;
  size_t sent = 0;
  absl::Time progress;  // when bytes came or went last
  std::deque<std::shared_ptr<RedisCall>> in_flight;
};

// Read at a time.
constexpr size_t kReceiveBytes = size_t{128} << 10;
// Of the buffer for answers, kept for the next ones.
constexpr size_t kKeptBytes = size_t{1} << 20;

// More elements are no answer to anything that is asked here; memory for an array would be had
// before its first element comes.
constexpr int64_t kMaxElements = 1 << 20;

using CreateArray = decltype(redisReplyObjectFunctions::createArray);

template <typename Count>
void* CreateBoundedArray(const redisReadTask* task, Count elements) {
  auto& connection = *static_cast<Connection*>(task->privdata);
  connection.elements += static_cast<int64_t>(elements);
  if (connection.elements > kMaxElements) return nullptr;
  static const CreateArray create = [] {
    redisReader* reader = redisReaderCreate();
    const CreateArray original = reader->fn->createArray;
    redisReaderFree(reader);
    return original;
  }();
  return create(task, elements);
}

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

  std::shared_ptr<RedisCall> Begin(std::span<const std::string_view> arguments, bool asking,
                                   absl::Time deadline) override {
    Command command{.bytes = Encode(arguments, asking), .pending = std::make_shared<RedisCall>()};
    std::shared_ptr<RedisCall> pending = command.pending;
    pending->deadline = deadline;
    pending->bytes = command.bytes.size();
    pending->skip = asking;
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
    connection.functions = *context->reader->fn;
    connection.functions.createArray = CreateBoundedArray;
    context->reader->fn = &connection.functions;
    context->reader->maxbuf = kKeptBytes;
    context->reader->privdata = &connection;
    connection.bytes = 0;
    connection.elements = 0;
    connection.connecting = true;
    connection.connect_by = absl::Now() + options_.connect_timeout;
    const auto greet = [&](std::initializer_list<std::string_view> arguments) {
      Append(connection, Encode(std::span(arguments.begin(), arguments.size())));
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

  static void Append(Connection& connection, std::string command) {
    connection.unsent.push_back(std::move(command));
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
  std::string OnMessage(Connection& connection, const redisReply& raw) {
    if (raw.type == REDIS_REPLY_ARRAY && raw.elements >= 2 &&
        raw.element[0]->type == REDIS_REPLY_STRING) {
      const std::string_view kind(raw.element[0]->str, raw.element[0]->len);
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
  std::string OnReply(Connection& connection, const redisReply& raw) {
    if (connection.greetings > 0) {
      if (raw.type == REDIS_REPLY_ERROR) {
        // A server that does not know AUTH repeats what it was told.
        std::string words(raw.str, raw.len);
        if (!options_.password.empty()) {
          words = absl::StrReplaceAll(words, {{options_.password, "***"}});
        }
        return std::string(ErrorOf(words).message());
      }
      if (--connection.greetings == 0) OnReady(connection);
      return "";
    }
    if (subscribes()) return OnMessage(connection, raw);
    if (connection.in_flight.empty()) return "it answers what nobody has asked";
    if (connection.in_flight.front()->skip) {
      // Where ASKING is an error the command behind it is one, too.
      connection.in_flight.front()->skip = false;
      return "";
    }
    const std::shared_ptr<RedisCall> pending = std::move(connection.in_flight.front());
    connection.in_flight.pop_front();
    if (!connection.in_flight.empty()) connection.in_flight.front()->sent = absl::Now();
    Finish(pending, ReplyOf(raw));
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
        static constexpr std::string_view kPing[] = {"PING"};
        Append(connection, Encode(kPing));
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
    // hiredis would read 16 KiB at a time.
    const ssize_t size = ::recv(context->fd, received_.data(), received_.size(), 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return "";
    if (size < 0) return ::strerrordesc_np(errno);
    if (size == 0) return "it has closed the connection";
    const auto came = static_cast<size_t>(size);
    if (came > 0 && connection.greetings == 0 && connection.in_flight.empty() && !subscribes()) {
      return "it answers what nobody has asked";
    }
    if (redisReaderFeed(context->reader, received_.data(), came) != REDIS_OK) {
      return context->reader->errstr;
    }
    connection.bytes += came;
    connection.progress = absl::Now();
    for (;;) {
      void* raw = nullptr;
      if (redisGetReplyFromReader(context, &raw) != REDIS_OK) return context->errstr;
      if (raw == nullptr) break;
      const std::unique_ptr<void, decltype(&freeReplyObject)> owner(raw, &freeReplyObject);
      std::string wrong = OnReply(connection, *static_cast<const redisReply*>(raw));
      if (!wrong.empty()) return wrong;
      connection.bytes = context->reader->len - context->reader->pos;
      connection.elements = 0;
    }
    return connection.bytes > options_.max_reply_bytes ? "its answer is too long" : "";
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
  std::vector<char> received_ = std::vector<char>(kReceiveBytes);
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
