// What stands behind a value in Redis, so that one which was put under another key, or was cut or
// changed, is noticed: a checksum of the key and the value, and a mark with the format's version.
// It is no proof against somebody who means to forge one.
#ifndef OCTOGATE_COMMON_REDIS_CHECKED_VALUE_H_
#define OCTOGATE_COMMON_REDIS_CHECKED_VALUE_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/hash128.h"

namespace octogate {

inline constexpr size_t kRedisTrailerBytes = 21;
std::string RedisTrailer(std::string_view key, std::string_view value);

// Makes the trailer of a value, in pieces where others do something between them. Not thread-safe.
class RedisSeal {
 public:
  // Key and value are another's and outlive it.
  RedisSeal(std::string_view key, std::string_view value) : key_(key), value_(value) {}

  std::string_view value() const { return value_; }
  // Reads about as far as the first `bytes` of the value, where it has not got there yet.
  void Read(size_t bytes);
  // What stands behind the value, which it reads to the end. Valid as long as the seal.
  std::string_view Trailer();

 private:
  std::string_view key_;
  std::string_view value_;
  size_t read_ = 0;
  Hasher128 hasher_{0};
  std::string trailer_;  // empty: not made yet
};

// The value alone, of one with its trailer. DATA_LOSS for anything else.
absl::StatusOr<std::string> CheckedRedisValue(std::string_view key, std::string stored);

}  // namespace octogate

#endif  // OCTOGATE_COMMON_REDIS_CHECKED_VALUE_H_
