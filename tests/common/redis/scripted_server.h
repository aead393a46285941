// A server that answers commands of Redis as a test says: rightly, wrongly, slowly, in part.
#ifndef OCTOGATE_TESTS_COMMON_REDIS_SCRIPTED_SERVER_H_
#define OCTOGATE_TESTS_COMMON_REDIS_SCRIPTED_SERVER_H_

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "tests/common/redis/loopback_listener.h"

namespace octogate {

class ScriptedServer {
 public:
  // The bytes to answer a command with; called by several threads. Behind an answer that ends with
  // kHangUp the connection is closed.
  using Script = std::function<std::string(const std::vector<std::string>& command)>;
  static constexpr char kHangUp = '\0';

  explicit ScriptedServer(Script script) : script_(std::move(script)) {
    acceptor_ = std::thread([this] { Accept(); });
  }
  ~ScriptedServer() {
    listener_.Stop();
    acceptor_.join();
    {
      absl::MutexLock lock(&mutex_);
      for (const int peer : peers_) ::shutdown(peer, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
    for (const int peer : peers_) ::close(peer);
  }
  int port() const { return listener_.port(); }

 private:
  void Accept() {
    for (;;) {
      const int peer = listener_.Accept();
      if (peer < 0) return;
      absl::MutexLock lock(&mutex_);
      peers_.push_back(peer);
      threads_.emplace_back([this, peer] { Serve(peer); });
    }
  }

  void Serve(int peer) {
    std::string pending;
    char bytes[4096];
    for (;;) {
      const ssize_t came = ::recv(peer, bytes, sizeof bytes, 0);
      if (came <= 0) return;
      pending.append(bytes, static_cast<size_t>(came));
      std::vector<std::string> command;
      while (Take(&pending, &command)) {
        std::string answer = script_(command);
        const bool hang_up = !answer.empty() && answer.back() == kHangUp;
        if (hang_up) answer.pop_back();
        ::send(peer, answer.data(), answer.size(), MSG_NOSIGNAL);
        if (hang_up) {
          ::shutdown(peer, SHUT_RDWR);
          return;
        }
      }
    }
  }

  // Takes a command off the beginning, if there is a whole one.
  static bool Take(std::string* pending, std::vector<std::string>* command) {
    command->clear();
    size_t at = 0;
    const auto number = [&](char mark, size_t* value) {
      const size_t end = pending->find("\r\n", at);
      if (end == std::string::npos || (*pending)[at] != mark) return false;
      *value = std::strtoul(pending->c_str() + at + 1, nullptr, 10);
      at = end + 2;
      return true;
    };
    size_t count = 0;
    if (!number('*', &count)) return false;
    for (; count > 0; --count) {
      size_t bytes = 0;
      if (at >= pending->size() || !number('$', &bytes)) return false;
      if (pending->size() < at + bytes + 2) return false;
      command->push_back(pending->substr(at, bytes));
      at += bytes + 2;
    }
    pending->erase(0, at);
    return true;
  }

  const Script script_;
  const LoopbackListener listener_;
  absl::Mutex mutex_;
  std::vector<int> peers_;  // closed at the end, so that no number is another connection's
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace octogate

#endif  // OCTOGATE_TESTS_COMMON_REDIS_SCRIPTED_SERVER_H_
