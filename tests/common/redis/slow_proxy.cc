#include "tests/common/redis/slow_proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <list>
#include <utility>
#include <vector>

namespace octogate {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr size_t kPiece = 64 << 10;
constexpr size_t kMaxWaiting = 64 << 20;  // bytes on the way, one way

struct Piece {
  SteadyClock::time_point left;
  std::vector<char> bytes;
  size_t sent = 0;
};

// One way of a connection.
struct Way {
  int from = -1;
  int to = -1;
  std::deque<Piece> pieces;
  size_t waiting = 0;
};

struct Connection {
  Way request;
  Way answer;
  bool broken = false;
  bool lost = false;  // what comes
};

SteadyClock::duration Seconds(double seconds) {
  return std::chrono::duration_cast<SteadyClock::duration>(std::chrono::duration<double>(seconds));
}

int ConnectTo(const std::string& unix_socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, unix_socket.c_str(), sizeof address.sun_path - 1);
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    ::close(socket);
    return -1;
  }
  ::fcntl(socket, F_SETFL, O_NONBLOCK);
  return socket;
}

}  // namespace

SlowProxy::SlowProxy(std::string unix_socket, const SlowLink& link)
    : unix_socket_(std::move(unix_socket)), link_(link), delay_seconds_(link.delay_seconds) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(listener_, reinterpret_cast<const sockaddr*>(&address), size) == 0 &&
      ::listen(listener_, 16) == 0 &&
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    port_ = ntohs(address.sin_port);
  }
  thread_ = std::thread([this] { Run(); });
}

SlowProxy::~SlowProxy() {
  stopping_ = true;
  thread_.join();
  ::close(listener_);
}

size_t SlowProxy::Kept(size_t bytes) {
  int64_t left = until_loss_;
  if (left < 0) return bytes;
  const auto kept = std::min(static_cast<int64_t>(bytes), left);
  until_loss_.compare_exchange_strong(left, left - kept);
  return static_cast<size_t>(kept);
}

void SlowProxy::Run() {
  std::list<Connection> connections;
  SteadyClock::time_point link_free =
      SteadyClock::now();  // when the last byte of an answer has left
  std::vector<char> buffer(kPiece);
  const auto receive = [&](Connection& connection, Way& way, bool limited) {
    const ssize_t count = ::recv(way.from, buffer.data(), buffer.size(), 0);
    if (count == 0 || (count < 0 && errno != EAGAIN)) connection.broken = true;
    if (count <= 0 || connection.lost) return;
    const size_t kept = limited ? Kept(static_cast<size_t>(count)) : static_cast<size_t>(count);
    SteadyClock::time_point left = SteadyClock::now();
    if (limited && link_.bytes_per_second > 0) {
      link_free =
          std::max(link_free, left) + Seconds(static_cast<double>(kept) / link_.bytes_per_second);
      left = link_free;
    }
    way.waiting += kept;
    if (kept > 0) way.pieces.push_back({left, {buffer.data(), buffer.data() + kept}});
  };
  const auto due = [this](const Piece& piece) { return piece.left + Seconds(delay_seconds_); };
  const auto deliver = [&due](Connection& connection, Way& way) {
    while (!way.pieces.empty() && due(way.pieces.front()) <= SteadyClock::now()) {
      Piece& piece = way.pieces.front();
      const ssize_t count = ::send(way.to, piece.bytes.data() + piece.sent,
                                   piece.bytes.size() - piece.sent, MSG_NOSIGNAL);
      if (count < 0) {
        if (errno != EAGAIN) connection.broken = true;
        return;
      }
      piece.sent += static_cast<size_t>(count);
      way.waiting -= static_cast<size_t>(count);
      if (piece.sent == piece.bytes.size()) way.pieces.pop_front();
    }
  };
  while (!stopping_) {
    std::vector<pollfd> polled = {{.fd = listener_, .events = POLLIN, .revents = 0}};
    SteadyClock::time_point next = SteadyClock::now() + std::chrono::milliseconds(50);
    for (Connection& connection : connections) {
      for (Way* way : {&connection.request, &connection.answer}) {
        const bool room = way->waiting < kMaxWaiting;
        polled.push_back({.fd = room ? way->from : -1, .events = POLLIN, .revents = 0});
        if (way->pieces.empty()) continue;
        // A peer that takes nothing is tried again soon.
        next = std::min(next, std::max(due(way->pieces.front()),
                                       SteadyClock::now() + std::chrono::microseconds(100)));
      }
    }
    const auto wait = std::max(next - SteadyClock::now(), SteadyClock::duration::zero());
    const timespec timeout = {
        .tv_sec = 0, .tv_nsec = std::chrono::duration_cast<std::chrono::nanoseconds>(wait).count()};
    ::ppoll(polled.data(), polled.size(), &timeout, nullptr);
    size_t index = 1;
    for (Connection& connection : connections) {
      connection.lost = connection.lost || until_loss_ == 0;
      if (polled[index++].revents != 0) receive(connection, connection.request, false);
      if (polled[index++].revents != 0) receive(connection, connection.answer, true);
      deliver(connection, connection.request);
      deliver(connection, connection.answer);
    }
    if (polled[0].revents != 0) {
      const int client = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      const int server = client < 0 ? -1 : ConnectTo(unix_socket_);
      if (server < 0) {
        if (client >= 0) ::close(client);
      } else {
        connections.push_back(
            {.request = {.from = client, .to = server}, .answer = {.from = server, .to = client}});
      }
    }
    connections.remove_if([](const Connection& connection) {
      if (connection.broken) {
        ::close(connection.request.from);
        ::close(connection.request.to);
      }
      return connection.broken;
    });
  }
  for (const Connection& connection : connections) {
    ::close(connection.request.from);
    ::close(connection.request.to);
  }
}

}  // namespace octogate
