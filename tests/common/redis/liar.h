// A server that lies.
#ifndef OCTOGATE_TESTS_COMMON_REDIS_LIAR_H_
#define OCTOGATE_TESTS_COMMON_REDIS_LIAR_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>

namespace octogate {

// Listens, and answers everything with the same bytes; what stands behind them, `stream`, again and
// again for as long as it is read.
class Liar {
 public:
  explicit Liar(std::string answer, std::string stream = "")
      : answer_(std::move(answer)), stream_(std::move(stream)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_, 8), 0);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }
  ~Liar() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  int port() const { return port_; }
  size_t sent() const { return sent_; }

 private:
  void Serve() {
    for (;;) {
      const int peer = ::accept(listener_, nullptr, nullptr);
      if (peer < 0) return;
      char request[4096];
      if (::recv(peer, request, sizeof request, 0) > 0) {
        ::send(peer, answer_.data(), answer_.size(), MSG_NOSIGNAL);
        while (!stream_.empty() && ::send(peer, stream_.data(), stream_.size(), MSG_NOSIGNAL) > 0) {
          sent_ += stream_.size();
        }
      }
      ::close(peer);
    }
  }

  const std::string answer_;
  const std::string stream_;
  std::atomic<size_t> sent_{0};
  int listener_ = -1;
  int port_ = 0;
  std::thread thread_;
};

}  // namespace octogate

#endif  // OCTOGATE_TESTS_COMMON_REDIS_LIAR_H_
