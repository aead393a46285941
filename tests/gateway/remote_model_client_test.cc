#include "gateway/remote_model_client.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "tests/gateway/stub_worker.h"

namespace octogate::gateway {
namespace {

// A port that refuses connections until a worker listens on it; nobody else is given it meanwhile.
class ReservedPort {
 public:
  ReservedPort() : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    const int on = 1;  // as gRPC's own sockets have it
    EXPECT_EQ(setsockopt(socket_, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(socket_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  ~ReservedPort() { close(socket_); }
  ReservedPort(const ReservedPort&) = delete;
  ReservedPort& operator=(const ReservedPort&) = delete;

  const std::string& address() const { return address_; }

 private:
  const int socket_;
  std::string address_;
};

absl::Status Ask(ModelClient& client) {
  absl::Status status;
  absl::Notification done;
  (void)client.Info(absl::Now() + absl::Seconds(30),
                    [&](const absl::StatusOr<v1::WorkerInfoResponse>& info) {
                      status = info.status();
                      done.Notify();
                    });
  done.WaitForNotification();
  return status;
}

// From this thread the calls take the loops one after the other.
TEST(RemoteModelClientTest, OnceAReplicaHasAnsweredAllLoopsReachIt) {
  constexpr int kLoops = 3;
  const ReservedPort port;
  const auto loops = EventLoops::Create(kLoops);
  const auto client = NewRemoteModelClient(port.address(), loops.get());
  // These connections wait now before they are made again; the last loop's has not been used.
  for (int i = 0; i < kLoops - 1; ++i) {
    EXPECT_EQ(Ask(*client).code(), absl::StatusCode::kUnavailable);
  }
  StubWorkerOptions options;
  options.address = port.address();
  const StubWorker worker(options);
  for (int i = 0; i < 10 * kLoops; ++i) {
    const absl::Status status = Ask(*client);
    EXPECT_TRUE(status.ok()) << "call " << i << ": " << status;
  }
}

}  // namespace
}  // namespace octogate::gateway
