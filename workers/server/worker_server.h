// A running gRPC worker: the Worker service, health and reflection on one port.
//
// Health ("" and "octogate.v1.Worker") is SERVING from Start() on, when the
// model is loaded and warm, until a Drain call or Shutdown().

#ifndef OCTOGATE_WORKERS_SERVER_WORKER_SERVER_H_
#define OCTOGATE_WORKERS_SERVER_WORKER_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "workers/server/worker_grpc_service.h"

namespace octogate::workers {

class WorkerServer {
 public:
  // Listens on `address` ("host:port"; port 0 picks one) and serves `model`,
  // which is warm. UNAVAILABLE where the address cannot be had.
  static absl::StatusOr<std::unique_ptr<WorkerServer>> Start(const std::string& address,
                                                             std::unique_ptr<ServedModel> model);
  ~WorkerServer();

  int port() const { return port_; }
  ServedModel& model() { return *model_; }

  // Says NOT_SERVING, lets what is under way end within `grace`, then cancels
  // the rest. Blocks; at most `grace` and a moment. Call once.
  void Shutdown(absl::Duration grace);

 private:
  explicit WorkerServer(std::unique_ptr<ServedModel> model);

  void SetServing(bool serving);

  std::unique_ptr<ServedModel> model_;
  WorkerGrpcService service_;
  absl::Notification started_;  // server_ is there, and SERVING
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_WORKER_SERVER_H_
