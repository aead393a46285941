// Status between Abseil's type and gRPC's: codes one to one, messages bounded and valid UTF-8, and
// the retry hint of a refusal carried as the trailing metadata that gRPC clients know.
#ifndef OCTOGATE_COMMON_GRPC_STATUS_H_
#define OCTOGATE_COMMON_GRPC_STATUS_H_

#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace octogate {

// Trailing metadata of a RESOURCE_EXHAUSTED that time will cure: a decimal number of milliseconds
// after which another attempt has a chance. gRPC clients with a retry policy wait that long.
inline constexpr char kRetryPushbackKey[] = "grpc-retry-pushback-ms";

// Longer messages are cut: they travel in headers, which peers limit to 8 KiB.
inline constexpr size_t kMaxStatusMessageBytes = 4096;

// Without the retry hint: AddRetryHint passes it on.
grpc::Status ToGrpcStatus(const absl::Status& status);

// Puts the retry hint of `status`, if it has one, into the trailing metadata of a call that has not
// ended.
void AddRetryHint(const absl::Status& status, grpc::ServerContextBase* context);

// A peer's word on how a call ended. Codes that gRPC does not define become UNKNOWN, the message is
// cut and made valid, a hint of up to kMaxRetryAfter is kept (common/status.h).
absl::Status FromPeerStatus(int code, std::string_view message, int64_t retry_after_ms);

// Codes that gRPC does not define become UNKNOWN; a retry hint in the call's trailing metadata
// becomes one of the result (common/status.h), unless it is longer than kMaxRetryAfter. To be
// called when the call has ended.
absl::Status FromGrpcStatus(const grpc::Status& status, const grpc::ClientContext& context);

// Infinite where the client has set none.
absl::Time DeadlineOf(const grpc::ServerContextBase& context);

}  // namespace octogate

#endif  // OCTOGATE_COMMON_GRPC_STATUS_H_
