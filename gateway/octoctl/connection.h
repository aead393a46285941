// octoctl's connection to a gateway, and what a failed call means to a script.

#ifndef OCTOGATE_GATEWAY_OCTOCTL_CONNECTION_H_
#define OCTOGATE_GATEWAY_OCTOCTL_CONNECTION_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "octogate/v1/admin.grpc.pb.h"
#include "octogate/v1/gateway.grpc.pb.h"

namespace octogate::octoctl {

// Exit statuses of octoctl; `octoctl --help` prints them.
enum ExitStatus {
  kOk = 0,
  kDifferent = 1,    // diff found differences
  kUsage = 2,        // wrong command line
  kInvalid = 3,      // the gateway refused the input
  kNotFound = 4,     // no such node, version or trace
  kConflict = 5,     // another version is applied than was expected
  kUnavailable = 6,  // no answer from the gateway or its workers
  kRefused = 7,      // a limit was reached or permission is missing
  kFailed = 10,      // anything else
};

ExitStatus ToExitStatus(const grpc::Status& status);

// Thread safety: none needed, octoctl makes one call at a time.
class Connection {
 public:
  // `server` is "host:port"; every call ends after `timeout_seconds`. Connects
  // with the first call.
  Connection(const std::string& server, double timeout_seconds);

  octogate::v1::Gateway::Stub& gateway() { return *gateway_; }
  octogate::v1::Admin::Stub& admin() { return *admin_; }
  // For one call.
  std::unique_ptr<grpc::ClientContext> Context() const;

  // Prints what went wrong and what to try next to standard error, and returns
  // the exit status. Nothing is printed for OK.
  ExitStatus Report(const grpc::Status& status) const;

 private:
  std::string server_;
  double timeout_seconds_;
  std::unique_ptr<octogate::v1::Gateway::Stub> gateway_;
  std::unique_ptr<octogate::v1::Admin::Stub> admin_;
};

}  // namespace octogate::octoctl

#endif  // OCTOGATE_GATEWAY_OCTOCTL_CONNECTION_H_
