// A real redis-server in a folder of its own, for tests.
#ifndef OCTOGATE_TESTS_COMMON_REDIS_REDIS_SERVER_H_
#define OCTOGATE_TESTS_COMMON_REDIS_REDIS_SERVER_H_

#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/redis/redis_client.h"

namespace octogate {

// Timeouts that a busy machine keeps, with one for whatever is asked.
inline RedisTimeouts Patient(absl::Duration answer) {
  return {.connect = absl::Seconds(10),
          .small = answer,
          .bulk = answer,
          .admin = answer,
          .notification = answer};
}

class RedisServer {
 public:
  // `settings` as on the command line, e.g. {"--maxmemory", "10mb"}.
  explicit RedisServer(std::vector<std::string> settings = {}) : settings_(std::move(settings)) {
    std::string name = (std::filesystem::temp_directory_path() / "octogate-redis-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    Start();
  }
  ~RedisServer() {
    Kill();
    std::filesystem::remove_all(folder_);
  }
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  // How to reach it, with limits that a busy machine keeps.
  RedisOptions options() const {
    return {.unix_socket = Socket(),
            .timeouts = Patient(absl::Seconds(10)),
            .max_backoff = absl::Milliseconds(200)};
  }
  const std::string& folder() const { return folder_; }
  std::string Socket() const { return folder_ + "/redis.sock"; }

  // Starts it again after Kill; what it kept is there, and nothing else. Waits until it answers.
  void Start() {
    std::vector<std::string> arguments{"redis-server", "--port",    "0",
                                       "--unixsocket", Socket(),    "--dir",
                                       folder_,        "--logfile", folder_ + "/log"};
    arguments.insert(arguments.end(), settings_.begin(), settings_.end());
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    ASSERT_EQ(::posix_spawnp(&pid_, "redis-server", nullptr, nullptr, argv.data(), environ), 0)
        << "there is no redis-server; install the package of that name";
    const auto client = RedisClient::Create(options());
    const absl::Time give_up = absl::Now() + absl::Seconds(60);
    absl::Status status;
    do {
      status = client->Call({"PING"}, absl::Now() + absl::Seconds(10)).status();
      if (!status.ok()) absl::SleepFor(absl::Milliseconds(10));
      if (status.ToString().find("NOAUTH") != std::string::npos) return;  // it answers
    } while (!status.ok() && absl::Now() < give_up);
    ASSERT_TRUE(status.ok()) << status;
  }
  void Kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
    std::filesystem::remove(Socket());
  }
  // Returns when it does nothing any more.
  void Freeze() {
    ::kill(pid_, SIGSTOP);
    siginfo_t info;
    ::waitid(P_PID, static_cast<id_t>(pid_), &info, WSTOPPED | WNOWAIT);
  }
  void Thaw() { ::kill(pid_, SIGCONT); }

 private:
  const std::vector<std::string> settings_;
  std::string folder_;
  pid_t pid_ = -1;
};

}  // namespace octogate

#endif  // OCTOGATE_TESTS_COMMON_REDIS_REDIS_SERVER_H_
