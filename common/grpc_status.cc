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

absl::Status FromGrpcStatus(const grpc::Status& status, const grpc::ClientContext& context) {
  if (status.ok()) return absl::OkStatus();
  const int code = status.error_code();
  absl::Status result(
      code >= 1 && code <= 16 ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
      SanitizeUtf8(status.error_message(), kMaxStatusMessageBytes));
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto pushback = trailers.find(kRetryPushbackKey);
  int64_t millis = 0;
  if (pushback != trailers.end() &&
      absl::SimpleAtoi(absl::string_view(pushback->second.data(), pushback->second.size()),
                       &millis) &&
      millis > 0 && millis <= absl::ToInt64Milliseconds(kMaxRetryAfter)) {
    return WithRetryAfter(std::move(result), absl::Milliseconds(millis));
  }
  return result;
}

absl::Time DeadlineOf(const grpc::ServerContextBase& context) {
  // A missing one reads as some two hundred years ahead.
  const absl::Time deadline = absl::FromChrono(context.deadline());
  return deadline - absl::Now() > absl::Hours(24 * 365) ? absl::InfiniteFuture() : deadline;
}

}  // namespace octogate
