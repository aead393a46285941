// A ValueCache in a Redis server or cluster. One key of the server per value and nothing else, so
// that what expires, or is evicted, leaves nothing behind. Each value is stored with a digest of
// its key and itself.
#ifndef OCTOGATE_COMMON_REDIS_REDIS_VALUE_CACHE_H_
#define OCTOGATE_COMMON_REDIS_REDIS_VALUE_CACHE_H_

#include <memory>
#include <string>

#include "common/redis/redis_client.h"
#include "common/value_cache.h"

namespace octogate {

// `client` outlives the cache. `prefix` stands before every key.
std::unique_ptr<ValueCache> MakeRedisValueCache(RedisClient* client,
                                                std::string prefix = "octogate:value:");

}  // namespace octogate

#endif  // OCTOGATE_COMMON_REDIS_REDIS_VALUE_CACHE_H_
