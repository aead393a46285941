#include "common/redis/redis_errors.h"

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate {

absl::Status RedisError(std::string_view words) {
  const auto begins = [words](const char* prefix) {
    return absl::StartsWith(ToAbsl(words), prefix);
  };
  const std::string message = absl::StrCat("Redis answers ", Quoted(words, 200));
  // What expires makes room, or an eviction.
  if (begins("OOM")) {
    return WithRetryAfter(absl::ResourceExhaustedError(message), absl::Seconds(1));
  }
  if (begins("NOAUTH") || begins("NOPERM") || begins("WRONGPASS") || begins("ERR invalid pass")) {
    return absl::PermissionDeniedError(message);
  }
  for (const char* prefix : {"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY",
                             "NOREPLICAS", "MISCONF"}) {
    if (begins(prefix)) return absl::UnavailableError(message);
  }
  if (begins("MOVED ") || begins("ASK ")) {
    absl::Status status = absl::FailedPreconditionError(
        absl::StrCat(message, "; it is part of a cluster, whose address begins redis+cluster://"));
    status.SetPayload(kRedisRedirect, absl::Cord(ToAbsl(words)));
    return status;
  }
  return absl::InternalError(message);
}

absl::StatusOr<RedisReply> RedisResult(RedisReply reply) {
  if (reply.kind == RedisReply::Kind::kError) return RedisError(reply.text);
  for (const RedisReply& element : reply.elements) {
    if (element.kind == RedisReply::Kind::kError) return RedisError(element.text);
  }
  return reply;
}

bool IsRedisFailure(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

}  // namespace octogate
