#include "gateway/grpc_status.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gateway/utf8.h"
#include "workers/engine/engine.h"

namespace octogate::gateway {
namespace {

// No peer can make a caller wait longer than this.
constexpr int64_t kMaxRetryAfterMillis = 600'000;

std::string_view View(absl::string_view text) { return {text.data(), text.size()}; }

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      SanitizeUtf8(View(status.message()), kMaxStatusMessageBytes));
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
      millis > 0 && millis <= kMaxRetryAfterMillis) {
    return WithRetryAfter(std::move(result), absl::Milliseconds(millis));
  }
  return result;
}

absl::Status WithRetryAfter(absl::Status status, absl::Duration retry_after) {
  const int64_t millis = std::max<int64_t>(
      1, absl::ToInt64Milliseconds(absl::Ceil(retry_after, absl::Milliseconds(1))));
  status.SetPayload(workers::kRetryAfterMillisPayload, absl::Cord(absl::StrCat(millis)));
  return status;
}

absl::Duration RetryAfter(const absl::Status& status) {
  const auto payload = status.GetPayload(workers::kRetryAfterMillisPayload);
  int64_t millis = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &millis) || millis < 0) {
    return absl::ZeroDuration();
  }
  return absl::Milliseconds(std::min(millis, kMaxRetryAfterMillis));
}

void AddRetryHint(const absl::Status& status, grpc::ServerContext* context) {
  const absl::Duration hint = RetryAfter(status);
  if (hint <= absl::ZeroDuration()) return;
  context->AddTrailingMetadata(kRetryPushbackKey, absl::StrCat(absl::ToInt64Milliseconds(hint)));
}

absl::Time DeadlineOf(const grpc::ServerContext& context) {
  // A missing one reads as some two hundred years ahead.
  const absl::Time deadline = absl::FromChrono(context.deadline());
  return deadline - absl::Now() > absl::Hours(24 * 365) ? absl::InfiniteFuture() : deadline;
}

}  // namespace octogate::gateway
