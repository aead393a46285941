// A TCP proxy in front of a Unix socket that delivers bytes later than they came, and no faster
// than a link of a given speed: a distant or slow server, for benchmarks and tests; or none at all,
// while connections stay open.
#ifndef OCTOGATE_TESTS_COMMON_REDIS_SLOW_PROXY_H_
#define OCTOGATE_TESTS_COMMON_REDIS_SLOW_PROXY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>

#include "common/redis/redis_client.h"

namespace octogate {

struct SlowLink {
  double delay_seconds = 0;     // each way
  double bytes_per_second = 0;  // of all that comes from the server; 0: no limit
};

class SlowProxy {
 public:
  // Listens on a port of 127.0.0.1 of its own.
  SlowProxy(std::string unix_socket, const SlowLink& link);
  ~SlowProxy();
  SlowProxy(const SlowProxy&) = delete;
  SlowProxy& operator=(const SlowProxy&) = delete;

  int port() const { return port_; }  // 0 where it cannot listen
  // Of what is on its way, too.
  void SetDelay(double seconds) { delay_seconds_ = seconds; }
  // Once so many bytes more have come from the server, what comes from either side is lost.
  // Connections, also those that are made until LoseNothing, stay open and silent for ever.
  void LoseAll(int64_t after_bytes = 0) { until_loss_ = after_bytes; }
  void LoseNothing() { until_loss_ = -1; }

 private:
  void Run();
  // Of so many bytes from the server those that are not lost.
  size_t Kept(size_t bytes);

  const std::string unix_socket_;
  const SlowLink link_;
  std::atomic<double> delay_seconds_;
  std::atomic<int64_t> until_loss_{-1};  // bytes from the server; negative: nothing is lost
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

// `redis`, through the proxy.
inline RedisOptions Through(const SlowProxy& proxy, RedisOptions redis) {
  redis.unix_socket.clear();
  redis.port = proxy.port();
  return redis;
}

}  // namespace octogate

#endif  // OCTOGATE_TESTS_COMMON_REDIS_SLOW_PROXY_H_
