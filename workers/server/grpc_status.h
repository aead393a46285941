// From absl::Status to grpc::Status, whose codes are the same numbers.

#ifndef OCTOGATE_WORKERS_SERVER_GRPC_STATUS_H_
#define OCTOGATE_WORKERS_SERVER_GRPC_STATUS_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace octogate::workers {

inline grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.raw_code()), std::string(status.message())};
}

// The call's deadline; gRPC reports a missing one as some two hundred years
// ahead, which becomes absl::InfiniteFuture().
inline absl::Time DeadlineOf(const grpc::ServerContextBase& context) {
  const absl::Time deadline = absl::FromChrono(context.deadline());
  return deadline - absl::Now() > absl::Hours(24 * 365) ? absl::InfiniteFuture() : deadline;
}

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_GRPC_STATUS_H_
