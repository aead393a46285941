#include "common/redis/checked_value.h"

#include <algorithm>
#include <span>

#include "absl/strings/str_cat.h"
#include "common/little_endian_bytes.h"
#include "common/strings.h"

namespace octogate {
namespace {

constexpr std::string_view kMark = "octo2";
static_assert(kRedisTrailerBytes == 16 + kMark.size());

void AppendHash(const Hash128& hash, std::string& out) {
  AppendLittleEndian(hash.high, out);
  AppendLittleEndian(hash.low, out);
}

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

}  // namespace

void RedisSeal::Read(size_t bytes) {
  if (bytes < value_.size()) bytes -= bytes % Hasher128::kBlock;
  const size_t end = std::clamp(bytes, read_, value_.size());
  hasher_.Add(Bytes(value_.substr(read_, end - read_)));
  read_ = end;
}

std::string_view RedisSeal::Trailer() {
  if (trailer_.empty()) {
    Read(value_.size());
    std::string text;
    AppendHash(hasher_.Finish(), text);
    text.append(key_);
    AppendHash(HashBytes(Bytes(text), 0), trailer_);
    trailer_.append(kMark);
  }
  return trailer_;
}

std::string RedisTrailer(std::string_view key, std::string_view value) {
  return std::string(RedisSeal(key, value).Trailer());
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
