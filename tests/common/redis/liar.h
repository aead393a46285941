// A server that lies.
#ifndef OCTOGATE_TESTS_COMMON_REDIS_LIAR_H_
#define OCTOGATE_TESTS_COMMON_REDIS_LIAR_H_

#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>

#include "tests/common/redis/loopback_listener.h"

namespace octogate {

// Listens, and answers everything with the same bytes; what stands behind them, `stream`, again and
// again for as long as it is read.
class Liar {
 public:
  explicit Liar(std::string answer, std::string stream = "")
      : answer_(std::move(answer)), stream_(std::move(stream)) {
    thread_ = std::thread([this] { Serve(); });
  }
  ~Liar() {
    listener_.Stop();
    thread_.join();
  }
  int port() const { return listener_.port(); }
  size_t sent() const { return sent_; }

 private:
  void Serve() {
    for (;;) {
      const int peer = listener_.Accept();
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
  const LoopbackListener listener_;
  std::thread thread_;
};

}  // namespace octogate

#endif  // OCTOGATE_TESTS_COMMON_REDIS_LIAR_H_
