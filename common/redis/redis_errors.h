// What a Redis server's errors mean to whoever has called.
#ifndef OCTOGATE_COMMON_REDIS_REDIS_ERRORS_H_
#define OCTOGATE_COMMON_REDIS_REDIS_ERRORS_H_

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/redis/redis_client.h"

namespace octogate {

// A status that a server's MOVED or ASK has become holds its words under this name.
inline constexpr char kRedisRedirect[] = "octogate/redis-redirect";

// The status of an error in the server's words; codes as RedisClient has them.
absl::Status RedisError(std::string_view words);

// The reply, unless it is an error or an array with one, such as that of a transaction.
absl::StatusOr<RedisReply> RedisResult(RedisReply reply);

// Whether the call failed otherwise than by what the server said.
bool IsRedisFailure(const absl::Status& status);

}  // namespace octogate

#endif  // OCTOGATE_COMMON_REDIS_REDIS_ERRORS_H_
