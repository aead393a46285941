// gRPC's health protocol over the gateway's own loops. gRPC's built-in service would start polling
// threads, which take network events away from the loops and wake them one by one: a quarter of the
// CPU of a small call.
#ifndef OCTOGATE_GATEWAY_HEALTH_SERVICE_H_
#define OCTOGATE_GATEWAY_HEALTH_SERVICE_H_

#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "gateway/event_loop.h"
#include "gateway/unary_method.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace octogate::gateway {

// Thread safety: all methods may be called from any thread.
class HealthService {
 public:
  using RawService = grpc::health::v1::Health::WithRawMethod_Check<
      grpc::health::v1::Health::WithRawMethod_Watch<grpc::health::v1::Health::Service>>;
  using State = grpc::health::v1::HealthCheckResponse::ServingStatus;

  // Of the server as a whole ("") and of `services`. NOT_SERVING at first.
  explicit HealthService(std::vector<std::string> services);

  // To be registered with the server's builder.
  RawService* grpc_service() { return &grpc_service_; }

  // Takes calls on the loop, whose queue is the server's. Once, when the server has started.
  void Serve(EventLoops* loops);

  // Tells all who watch.
  void SetServing(bool serving);

  // Ends all Watch calls with UNAVAILABLE and refuses new ones. Before the server shuts down.
  void Shutdown();

 private:
  class Watch;

  // SERVICE_UNKNOWN for other services.
  State StateOf(const std::string& service) const ABSL_SHARED_LOCKS_REQUIRED(mutex_);

  const std::set<std::string> services_;
  RawService grpc_service_;
  UnaryMethod<RawService, grpc::health::v1::HealthCheckRequest,
              grpc::health::v1::HealthCheckResponse>
      check_;
  EventLoops* loops_ = nullptr;
  mutable absl::Mutex mutex_;
  bool serving_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_set<Watch*> watches_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_HEALTH_SERVICE_H_
