#include "gateway/octoctl/connection.h"

#include <chrono>
#include <cstdint>
#include <iostream>

#include "gateway/octoctl/output.h"

namespace octogate::octoctl {
namespace {

// What to type next, where that can be known from the code alone.
std::string Hint(const grpc::Status& status, const std::string& server) {
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
      // Said by the gateway itself, the message is the better advice.
      if (status.error_message().find("onnect") == std::string::npos) return "";
      return "is a gateway listening on " + server +
             "? start one with 'octogate', or name another with --server HOST:PORT";
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return "give it more time with --timeout SECONDS";
    case grpc::StatusCode::NOT_FOUND:
      // The message says it itself.
      if (status.error_message().find("see octoctl") != std::string::npos) return "";
      return "see what there is with 'octoctl get nodes', 'octoctl get models', 'octoctl get "
             "versions' or 'octoctl get traces'";
    case grpc::StatusCode::ABORTED:
      return "see what is applied with 'octoctl get versions'";
    case grpc::StatusCode::UNIMPLEMENTED:
      return "the gateway on " + server + " may be of another release; see 'octoctl version'";
    default:
      return "";
  }
}

std::string CodeName(grpc::StatusCode code) {
  static constexpr const char* kNames[] = {"OK",
                                           "CANCELLED",
                                           "UNKNOWN",
                                           "INVALID_ARGUMENT",
                                           "DEADLINE_EXCEEDED",
                                           "NOT_FOUND",
                                           "ALREADY_EXISTS",
                                           "PERMISSION_DENIED",
                                           "RESOURCE_EXHAUSTED",
                                           "FAILED_PRECONDITION",
                                           "ABORTED",
                                           "OUT_OF_RANGE",
                                           "UNIMPLEMENTED",
                                           "INTERNAL",
                                           "UNAVAILABLE",
                                           "DATA_LOSS",
                                           "UNAUTHENTICATED"};
  const auto index = static_cast<size_t>(code);
  return index < std::size(kNames) ? kNames[index] : std::to_string(static_cast<int>(code));
}

}  // namespace

ExitStatus ToExitStatus(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::OK:
      return kOk;
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::OUT_OF_RANGE:
      return kInvalid;
    case grpc::StatusCode::NOT_FOUND:
      return kNotFound;
    case grpc::StatusCode::ABORTED:
    case grpc::StatusCode::ALREADY_EXISTS:
      return kConflict;
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return kUnavailable;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::UNAUTHENTICATED:
      return kRefused;
    default:
      return kFailed;
  }
}

Connection::Connection(const std::string& server, double timeout_seconds)
    : server_(server), timeout_seconds_(timeout_seconds) {
  auto channel = grpc::CreateChannel(server, grpc::InsecureChannelCredentials());
  gateway_ = octogate::v1::Gateway::NewStub(channel);
  admin_ = octogate::v1::Admin::NewStub(channel);
}

std::unique_ptr<grpc::ClientContext> Connection::Context() const {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() +
                        std::chrono::milliseconds(static_cast<int64_t>(timeout_seconds_ * 1000)));
  return context;
}

ExitStatus Connection::Report(const grpc::Status& status) const {
  if (status.ok()) return kOk;
  std::cerr << "octoctl: " << CodeName(status.error_code()) << ": "
            << Printable(status.error_message()) << "\n";
  if (const std::string hint = Hint(status, server_); !hint.empty()) {
    std::cerr << "octoctl: " << hint << "\n";
  }
  return ToExitStatus(status);
}

}  // namespace octogate::octoctl
