// A Store in a Redis server, for several gateways together.
//
// Behind every value stands a checksum of it and of its key: bytes that were put under another key,
// or were cut or changed, are DATA_LOSS. It is none against somebody who means to forge them.
// Transactions and scripts make each call atomic towards all others on the server, and keep names
// in sorted sets, so that List costs what it returns, however many keys others have. PutMany writes
// values of one part by few transactions: what a server refuses of one, it refuses of those with
// it.
//
// Names whose values have expired are forgotten by and by: of a part of which all values expire,
// each Put looks at a few, and all go with the last value. The names of a part that has values
// without expiry stay until Delete: keep values that expire in other parts. A server that evicts
// may drop all names of a part whose values expire, which List does not find then.
//
// All that shares the part of a key before its first "/" has one hash slot of a Redis Cluster.
//
// Values that do not expire are as safe as the server makes them: it should have `appendonly yes`,
// and must not evict them (`maxmemory-policy noeviction` or `volatile-*`); deploy/redis.conf has
// both.
#ifndef OCTOGATE_COMMON_REDIS_REDIS_STORE_H_
#define OCTOGATE_COMMON_REDIS_REDIS_STORE_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/redis/redis_client.h"
#include "common/store.h"

namespace octogate {

struct RedisStoreOptions {
  // Before every key. Gateways with the same one share what is stored.
  std::string prefix = "octogate:";
  size_t max_value_bytes = size_t{16} << 20;
  // A value that expires does so in the server, as long after the call as it is by this clock.
  Clock clock = SystemClock();
};

// `client` outlives the store.
std::unique_ptr<Store> MakeRedisStore(RedisClient* client, RedisStoreOptions options = {});

// FAILED_PRECONDITION, with what to set and where, where a server (of a cluster: a master) would
// evict values that do not expire, or keeps nothing over a restart; OK for those that do not let
// their settings be read. Otherwise the status of one that did not answer.
absl::Status CheckRedisKeepsValues(RedisClient& client, absl::Time deadline);

}  // namespace octogate

#endif  // OCTOGATE_COMMON_REDIS_REDIS_STORE_H_
