#include "common/grpc_status.h"

#include <cstdint>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/strings.h"
#include "common/utf8.h"

namespace octogate {

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      SanitizeUtf8(ToStd(status.message()), kMaxStatusMessageBytes));
}

void AddRetryHint(const absl::Status& status, grpc::ServerContextBase* context) {
  const absl::Duration hint = RetryAfter(status);
  if (hint <= absl::ZeroDuration()) return;
  context->AddTrailingMetadata(kRetryPushbackKey, absl::StrCat(absl::ToInt64Milliseconds(hint)));
}

absl::Status FromPeerStatus(int code, std::string_view message, int64_t retry_after_ms) {
  if (code == 0) return absl::OkStatus();
  absl::Status result(
      code >= 1 && code <= 16 ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
      SanitizeUtf8(message, kMaxStatusMessageBytes));
  if (retry_after_ms <= 0 || retry_after_ms > absl::ToInt64Milliseconds(kMaxRetryAfter)) {
    return result;
  }
  return WithRetryAfter(std::move(result), absl::Milliseconds(retry_after_ms));
}

absl::Status FromGrpcStatus(const grpc::Status& status, const grpc::ClientContext& context) {
  if (status.ok()) return absl::OkStatus();
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto pushback = trailers.find(kRetryPushbackKey);
  int64_t millis = 0;
  if (pushback == trailers.end() ||
      !absl::SimpleAtoi(absl::string_view(pushback->second.data(), pushback->second.size()),
                        &millis)) {
    millis = 0;
  }
  return FromPeerStatus(status.error_code(), status.error_message(), millis);
}

absl::Time DeadlineOf(const grpc::ServerContextBase& context) {
  // A missing one reads as some two hundred years ahead.
  const absl::Time deadline = absl::FromChrono(context.deadline());
  return deadline - absl::Now() > absl::Hours(24 * 365) ? absl::InfiniteFuture() : deadline;
}

}  // namespace octogate
