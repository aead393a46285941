// What stands behind a value in Redis, so that one which was put under another key, or was cut or
// changed, is noticed: a checksum of the key and the value, and a mark with the format's version.
// It is no proof against somebody who means to forge one.
#ifndef OCTOGATE_COMMON_REDIS_CHECKED_VALUE_H_
#define OCTOGATE_COMMON_REDIS_CHECKED_VALUE_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace octogate {

inline constexpr size_t kRedisTrailerBytes = 21;
std::string RedisTrailer(std::string_view key, std::string_view value);

// The value alone, of one with its trailer. DATA_LOSS for anything else.
absl::StatusOr<std::string> CheckedRedisValue(std::string_view key, std::string stored);

}  // namespace octogate

#endif  // OCTOGATE_COMMON_REDIS_CHECKED_VALUE_H_
