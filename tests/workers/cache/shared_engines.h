// Engines that share pages through a real redis-server, for tests.
#ifndef OCTOGATE_TESTS_WORKERS_CACHE_SHARED_ENGINES_H_
#define OCTOGATE_TESTS_WORKERS_CACHE_SHARED_ENGINES_H_

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/common/redis/redis_server.h"
#include "tests/workers/engine/run_requests.h"
#include "tests/workers/engine/test_models.h"
#include "workers/cache/redis_page_store.h"
#include "workers/engine/engine.h"

namespace octogate::workers {

inline RedisOptions ClientOptions(const RedisServer& server) {
  RedisOptions options = server.options();
  options.connections = 4;
  return options;
}

// Options of an engine that shares through `server`.
inline EngineOptions Sharing(const RedisServer& server, EngineOptions options,
                             RedisPageStoreOptions store = {}) {
  store.timeout = absl::Seconds(10);
  store.write_from_use = 1;
  options.make_page_store =
      ShareThroughRedis(RedisClient::Create(ClientOptions(server)), std::move(store));
  return options;
}

inline EngineStats::Sharing SharingOf(const Engine& engine) {
  return engine.stats().sharing.value_or(EngineStats::Sharing());
}

// Without the marks of flushes.
inline int64_t StoredPages(const RedisServer& server) {
  const auto client = RedisClient::Create(server.options());
  const auto reply = client->Call({"KEYS", "octogate:kv:{*"}, absl::Now() + absl::Seconds(10));
  return reply.ok() ? static_cast<int64_t>(reply->elements.size()) : -1;
}

// Waits until the server has so many pages.
inline void AwaitStored(const RedisServer& server, int64_t pages) {
  const absl::Time give_up = absl::Now() + kLong;
  while (StoredPages(server) < pages && absl::Now() < give_up) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_GE(StoredPages(server), pages);
}

inline GenerateRequest SharedRequest(std::vector<int32_t> prompt, int max_tokens,
                                     std::string salt = "") {
  return RequestFor(std::move(prompt), max_tokens, std::move(salt), /*logprobs=*/2);
}

}  // namespace octogate::workers

#endif  // OCTOGATE_TESTS_WORKERS_CACHE_SHARED_ENGINES_H_
