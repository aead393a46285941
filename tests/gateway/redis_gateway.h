// A gateway inside the test whose store, and what it shares with others, is in a real redis-server.
#ifndef OCTOGATE_TESTS_GATEWAY_REDIS_GATEWAY_H_
#define OCTOGATE_TESTS_GATEWAY_REDIS_GATEWAY_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/redis/redis_record_streams.h"
#include "common/redis/redis_store.h"
#include "common/redis/redis_value_cache.h"
#include "tests/common/redis/redis_server.h"
#include "tests/gateway/test_gateway.h"
#include "tests/gateway/watched_values.h"

namespace octogate::gateway {

struct RedisSide {
  explicit RedisSide(RedisOptions options)
      : client(RedisClient::Create(std::move(options))),
        store(MakeRedisStore(client.get())),
        values(std::make_unique<WatchedValues>(MakeRedisValueCache(client.get()))),
        streams(MakeRedisRecordStreams(client.get())) {}
  std::unique_ptr<RedisClient> client;
  std::unique_ptr<Store> store;
  std::unique_ptr<WatchedValues> values;
  std::unique_ptr<RecordStreams> streams;
};

class RedisGateway : public RedisSide, public TestGateway {
 public:
  static ServerOptions Options() {
    ServerOptions options;
    options.store_poll_interval = absl::Milliseconds(50);
    options.shared_wait = absl::Seconds(10);  // on a busy machine
    return options;
  }

  explicit RedisGateway(const RedisOptions& redis, const ServerOptions& options = Options())
      : RedisSide(redis), TestGateway(Sharing(options, *this), store.get()) {}

  // A counter or gauge of the metrics' page by its name with labels; -1: there is none.
  double Metric(const std::string& name) {
    const std::string text = "\n" + server().metrics().Text();
    const size_t at = text.find(absl::StrCat("\n", name, " "));
    double value = -1;
    if (at == std::string::npos) return value;
    const size_t begin = at + name.size() + 2;
    return absl::SimpleAtod(text.substr(begin, text.find('\n', begin) - begin), &value) ? value
                                                                                        : -1;
  }

 private:
  static ServerOptions Sharing(ServerOptions options, const RedisSide& side) {
    options.shared_values = side.values.get();
    options.traces.shared = side.streams.get();
    options.store_metrics = [client = side.client.get()] {
      return Metrics::Store{.reachable = client->stats().reachable};
    };
    return options;
  }
};

// Whether it comes to hold.
inline bool Eventually(const std::function<bool()>& holds) {
  const absl::Time give_up = absl::Now() + absl::Seconds(60);
  while (!holds()) {
    if (absl::Now() > give_up) return false;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return true;
}

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_REDIS_GATEWAY_H_
