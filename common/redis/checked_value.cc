#include "common/redis/checked_value.h"

#include <span>

#include "absl/strings/str_cat.h"
#include "common/hash128.h"
#include "common/little_endian_bytes.h"
#include "common/strings.h"

namespace octogate {
namespace {

constexpr std::string_view kMark = "octo2";
static_assert(kRedisTrailerBytes == 16 + kMark.size());

void AppendHash(std::string_view bytes, std::string& out) {
  const Hash128 hash = HashBytes(std::as_bytes(std::span(bytes)), 0);
  AppendLittleEndian(hash.high, out);
  AppendLittleEndian(hash.low, out);
}

}  // namespace

std::string RedisTrailer(std::string_view key, std::string_view value) {
  std::string text;
  AppendHash(value, text);
  text.append(key);
  std::string trailer;
  AppendHash(text, trailer);
  trailer.append(kMark);
  return trailer;
}

absl::StatusOr<std::string> CheckedRedisValue(std::string_view key, std::string stored) {
  std::string_view value = stored;
  if (value.size() >= kRedisTrailerBytes) {
    const std::string_view trailer = value.substr(value.size() - kRedisTrailerBytes);
    value.remove_suffix(kRedisTrailerBytes);
    if (trailer == RedisTrailer(key, value)) {
      stored.resize(value.size());
      return stored;
    }
  }
  return absl::DataLossError(absl::StrCat("what Redis has of ", Quoted(key),
                                          " is not what was written; put it there again"));
}

}  // namespace octogate
