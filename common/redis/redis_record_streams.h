// RecordStreams in streams of a Redis server or cluster, version 5 or newer.
//
// Of each stream two keys that share a slot: the stream, and a hash that says where in it each
// record is. A script appends, and trims both together; keys of another kind in their place are
// replaced.
#ifndef OCTOGATE_COMMON_REDIS_REDIS_RECORD_STREAMS_H_
#define OCTOGATE_COMMON_REDIS_REDIS_RECORD_STREAMS_H_

#include <memory>
#include <string>

#include "common/record_streams.h"
#include "common/redis/redis_client.h"

namespace octogate {

// `client` outlives the streams. `prefix` stands before every key.
std::unique_ptr<RecordStreams> MakeRedisRecordStreams(RedisClient* client,
                                                      RecordStreams::Limits limits = {},
                                                      std::string prefix = "octogate:stream:");

}  // namespace octogate

#endif  // OCTOGATE_COMMON_REDIS_REDIS_RECORD_STREAMS_H_
