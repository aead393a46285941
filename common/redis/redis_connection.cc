#include "common/redis/redis_connection.h"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <initializer_list>
#include <utility>

#include "absl/strings/str_replace.h"
#include "common/clock.h"
#include "common/redis/redis_errors.h"

namespace octogate {
namespace {

// Of a Unix socket, as far as the system lets it; TCP finds its own measure.
constexpr int kSendBuffer = 1 << 20;

}  // namespace

void RedisConnection::ContextDeleter::operator()(redisContext* context) const {
  redisFree(context);
}

RedisConnection::RedisConnection(const RedisOptions* options, std::string channel,
                                 const Events* events)
    : options_(options), channel_(std::move(channel)), events_(events) {}

std::string RedisConnection::Connect() {
  context_.reset(options_->unix_socket.empty()
                     ? redisConnectNonBlock(options_->host.c_str(), options_->port)
                     : redisConnectUnixNonBlock(options_->unix_socket.c_str()));
  if (context_ == nullptr) return "no memory";
  if (context_->err != 0) return context_->errstr;
  if (!options_->unix_socket.empty()) {
    ::setsockopt(context_->fd, SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof kSendBuffer);
  }
  reader_.emplace(options_->max_reply_bytes);
  connecting_ = true;
  progress_ = SteadyNow();
  connect_by_ = progress_ + options_->timeouts.connect;
  const auto greet = [&](std::initializer_list<RedisArgument> arguments) {
    Append(std::span(arguments.begin(), arguments.size()));
    ++greetings_;
  };
  if (!options_->password.empty() && !options_->username.empty()) {
    greet({"AUTH", options_->username, options_->password});
  } else if (!options_->password.empty()) {
    greet({"AUTH", options_->password});
  }
  if (options_->database != 0) greet({"SELECT", std::to_string(options_->database)});
  greet({"PING"});
  if (subscribes()) greet({"SUBSCRIBE", channel_});
  pinged_ = false;
  return "";
}

std::deque<RedisConnection::CallPtr> RedisConnection::Close() {
  context_.reset();
  connecting_ = wants_write_ = full_ = ready_ = false;
  greetings_ = 0;
  unsent_.clear();
  sent_ = 0;
  awaited_ = {};
  return std::exchange(in_flight_, {});
}

void RedisConnection::Send(CallPtr call, std::string bytes) {
  Begin(std::move(call));
  Append(std::move(bytes));
}

void RedisConnection::Begin(CallPtr call) {
  Awaited& awaited = awaited_[static_cast<size_t>(call->kind)];
  if (awaited.calls++ == 0) awaited.since = SteadyNow();
  in_flight_.push_back(std::move(call));
}

void RedisConnection::Append(std::string bytes) {
  unsent_.push_back({.own = std::move(bytes), .lent = {}});
  wants_write_ = true;
}

void RedisConnection::Lend(std::string_view bytes) {
  unsent_.push_back({.own = {}, .lent = bytes});
  wants_write_ = true;
}

void RedisConnection::Keep() {
  for (Piece& piece : unsent_) {
    if (!piece.own.empty()) continue;
    const size_t sent = &piece == &unsent_.front() ? std::exchange(sent_, 0) : 0;
    piece.own = std::exchange(piece.lent, {}).substr(sent);
  }
}

std::string RedisConnection::Flush() { return ready_ && wants_write_ ? Write() : ""; }

int RedisConnection::descriptor() const { return context_ == nullptr ? -1 : context_->fd; }

short RedisConnection::Wanted() const {
  return static_cast<short>(connecting_ ? POLLOUT : wants_write_ ? POLLIN | POLLOUT : POLLIN);
}

std::string RedisConnection::Handle(short events) {
  std::string wrong;
  if ((events & (POLLOUT | POLLERR)) != 0) wrong = Write();
  if (wrong.empty() && (events & (POLLIN | POLLHUP)) != 0) wrong = Read();
  return wrong;
}

bool RedisConnection::Idle(absl::Time now) const {
  return ready_ && in_flight_.empty() && now - ready_since_ > options_->timeouts.connect;
}

absl::Time RedisConnection::AnswerBy() const {
  const RedisTimeouts& timeouts = options_->timeouts;
  if (!ready_) return connect_by_;
  if (subscribes()) {
    return progress_ + (pinged_ ? timeouts.notification : timeouts.sign_of_life);
  }
  const absl::Duration allowed[] = {timeouts.small, timeouts.bulk, timeouts.admin};
  absl::Time by = absl::InfiniteFuture();
  for (size_t kind = 0; kind < awaited_.size(); ++kind) {
    const Awaited& awaited = awaited_[kind];
    if (awaited.calls > 0) by = std::min(by, std::max(awaited.since, progress_) + allowed[kind]);
  }
  return by;
}

bool RedisConnection::AskForLife(absl::Time now) {
  if (!subscribes() || !ready_ || pinged_) return false;
  static const RedisArgument kPing[] = {"PING"};
  Append(kPing);
  pinged_ = true;
  progress_ = now;
  return true;
}

void RedisConnection::Append(std::span<const RedisArgument> arguments) {
  std::string bytes;
  AppendRespCommand(arguments, &bytes);
  Append(std::move(bytes));
}

std::string RedisConnection::Write() {
  if (connecting_) {
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(context_->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return ::strerrordesc_np(error);
    connecting_ = false;
  }
  std::array<iovec, 64> parts;
  while (!unsent_.empty()) {
    size_t count = 0;
    for (; count < parts.size() && count < unsent_.size(); ++count) {
      const std::string_view bytes = unsent_[count].bytes().substr(count == 0 ? sent_ : 0);
      parts[count] = {.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
    }
    const msghdr message{.msg_iov = parts.data(), .msg_iovlen = count};
    const ssize_t sent = ::sendmsg(context_->fd, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) break;
    if (sent < 0) return ::strerrordesc_np(errno);
    if (full_) progress_ = SteadyNow();
    sent_ += static_cast<size_t>(sent);
    while (!unsent_.empty() && sent_ >= unsent_.front().bytes().size()) {
      sent_ -= unsent_.front().bytes().size();
      unsent_.pop_front();
    }
  }
  wants_write_ = full_ = !unsent_.empty();
  return "";
}

std::string RedisConnection::Read() {
  std::array<iovec, 2> space = reader_->Space();
  msghdr message{};
  message.msg_iov = space.data();
  message.msg_iovlen = space.size();
  const ssize_t size = ::recvmsg(context_->fd, &message, 0);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return "";
  if (size < 0) return ::strerrordesc_np(errno);
  if (size == 0) return "it has closed the connection";
  if (greetings_ == 0 && in_flight_.empty() && !subscribes()) {
    return "it answers what nobody has asked";
  }
  progress_ = SteadyNow();
  const absl::Status read = reader_->Came(static_cast<size_t>(size));
  while (std::optional<RedisReply> reply = reader_->Next()) {
    std::string wrong = OnReply(*std::move(reply));
    if (!wrong.empty()) return wrong;
  }
  return std::string(read.message());
}

std::string RedisConnection::OnReply(RedisReply reply) {
  if (greetings_ > 0) {
    if (reply.kind == RedisReply::Kind::kError) {
      // A server that does not know AUTH repeats what it was told.
      std::string words = std::move(reply.text);
      if (!options_->password.empty()) {
        words = absl::StrReplaceAll(words, {{options_->password, "***"}});
      }
      return std::string(RedisError(words).message());
    }
    if (--greetings_ == 0) {
      ready_ = true;
      ready_since_ = SteadyNow();
      events_->on_ready();
    }
    return "";
  }
  if (subscribes()) return OnMessage(reply);
  if (in_flight_.empty()) return "it answers what nobody has asked";
  RedisCall& first = *in_flight_.front();
  if (first.answers_before > 0) {
    --first.answers_before;
    if (reply.kind == RedisReply::Kind::kError && first.refused_before.ok()) {
      first.refused_before = RedisError(reply.text);
    }
    return "";
  }
  const CallPtr call = std::move(in_flight_.front());
  in_flight_.pop_front();
  --awaited_[static_cast<size_t>(call->kind)].calls;
  if (call->refused_before.ok()) {
    events_->on_answer(call, RedisResult(std::move(reply)));
  } else {
    events_->on_answer(call, call->refused_before);
  }
  return "";
}

// An answer to a subscription: a message, or the sign of life that it was asked for.
std::string RedisConnection::OnMessage(const RedisReply& reply) {
  if (reply.elements.size() >= 2) {
    const std::string& kind = reply.elements[0].text;
    if (kind == "message") {
      events_->on_message();
      return "";
    }
    if (kind == "pong" && pinged_) {
      pinged_ = false;
      return "";
    }
  }
  return "it sends what is no message";
}

}  // namespace octogate
