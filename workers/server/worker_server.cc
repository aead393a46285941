#include "workers/server/worker_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace octogate::workers {
namespace {

constexpr int kMaxMessageBytes = 4 << 20;
constexpr char kServiceName[] = "octogate.v1.Worker";

}  // namespace

WorkerServer::WorkerServer(std::unique_ptr<ServedModel> model)
    : model_(std::move(model)), service_(model_.get(), [this] {
        // Calls may come as soon as the port is open.
        started_.WaitForNotification();
        SetServing(false);
      }) {}

absl::StatusOr<std::unique_ptr<WorkerServer>> WorkerServer::Start(
    const std::string& address, std::unique_ptr<ServedModel> model) {
  auto worker = std::unique_ptr<WorkerServer>(new WorkerServer(std::move(model)));
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &worker->port_);
  builder.RegisterService(&worker->service_);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  // Without it a second worker would silently share the port.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  worker->server_ = builder.BuildAndStart();
  if (worker->server_ == nullptr || worker->port_ == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", address, "; is the port in use?"));
  }
  worker->SetServing(true);
  worker->started_.Notify();
  return worker;
}

WorkerServer::~WorkerServer() {
  if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
}

void WorkerServer::SetServing(bool serving) {
  server_->GetHealthCheckService()->SetServingStatus(serving);
  server_->GetHealthCheckService()->SetServingStatus(kServiceName, serving);
}

void WorkerServer::Shutdown(absl::Duration grace) {
  SetServing(false);
  // Errors mean that the grace is over; the server then cancels what is left.
  model_->Drain(absl::Now() + grace).IgnoreError();
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  server_->Wait();
}

}  // namespace octogate::workers
