// A client of a Redis Cluster: what RedisClient promises, over as many servers as it has masters.
//
// A command goes to the node that has the slot of its key, over connections of that node's own. Who
// has which slot is asked with CLUSTER SLOTS: at the start, once a minute, and after a node has
// failed, has sent a command elsewhere (MOVED), or has said that the cluster is down, at most once
// in `first_backoff`, doubling to `max_backoff` with jitter while that changes nothing. A command
// that is sent elsewhere (MOVED, or ASK while a slot moves) follows at most kMaxRedirects times and
// is UNAVAILABLE then. One whose node has failed is UNAVAILABLE as of one server, and is not tried
// again: it may have been executed. Commands that need other slots work meanwhile; those of the
// failed node's slots do again when a replica has taken its place.
//
// All keys of one command must share a slot.
#ifndef OCTOGATE_COMMON_REDIS_REDIS_CLUSTER_H_
#define OCTOGATE_COMMON_REDIS_REDIS_CLUSTER_H_

#include <memory>

#include "common/redis/redis_client.h"

namespace octogate {

// `options` name one node; `options.more_nodes` others to begin with, where it may be gone.
std::unique_ptr<RedisClient> MakeRedisClusterClient(RedisOptions options);

}  // namespace octogate

#endif  // OCTOGATE_COMMON_REDIS_REDIS_CLUSTER_H_
