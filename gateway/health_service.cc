#include "gateway/health_service.h"

#include <grpcpp/support/async_stream.h>

#include <utility>

#include "gateway/message_codec.h"

namespace octogate::gateway {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// One Watch call. Owns itself: gone when its status is written and gRPC has said that it has ended.
// What changes is guarded by the service's mutex.
class HealthService::Watch {
 public:
  static void Accept(HealthService* service) {
    auto* watch = new Watch(service);
    auto* queue = static_cast<grpc::ServerCompletionQueue*>(service->loops_->queue(0));
    watch->context_.AsyncNotifyWhenDone(&watch->ended_);
    service->grpc_service_.RequestWatch(&watch->context_, &watch->bytes_, &watch->writer_, queue,
                                        queue, &watch->accepted_);
  }

  // Writes the state if the client does not know it, or the end, unless a write is under way.
  void Update() ABSL_EXCLUSIVE_LOCKS_REQUIRED(service_->mutex_) {
    if (writing_ || closing_) return;
    if (service_->stopped_ || gone_) {
      closing_ = true;
      writer_.Finish({grpc::StatusCode::UNAVAILABLE, "the server is ending"}, &closed_);
      return;
    }
    HealthCheckResponse response;
    response.set_status(service_->StateOf(service_name_));
    if (known_ == response.status()) return;
    known_ = response.status();
    writing_ = true;
    writer_.Write(SerializeMessage(response), &written_);
  }

 private:
  explicit Watch(HealthService* service) : service_(service), hold_(service->loops_) {}

  void OnAccepted(bool ok) {
    if (!ok) {  // The server shuts down.
      delete this;
      return;
    }
    Accept(service_);
    HealthCheckRequest request;
    const bool valid = ParseMessage(bytes_, &request).ok();
    service_name_ = request.service();
    absl::MutexLock lock(&service_->mutex_);
    gone_ = !valid;
    service_->watches_.insert(this);
    Update();
  }

  void OnWritten(bool ok) {
    absl::MutexLock lock(&service_->mutex_);
    writing_ = false;
    if (!ok) gone_ = true;
    Update();
  }

  void OnEnded(bool) {
    {
      absl::MutexLock lock(&service_->mutex_);
      gone_ = true;
      Update();
    }
    Drop();
  }

  void OnClosed(bool) { Drop(); }

  void Drop() {
    {
      absl::MutexLock lock(&service_->mutex_);
      if (--users_ > 0) return;
      service_->watches_.erase(this);
    }
    delete this;
  }

  HealthService* const service_;
  const EventLoops::Hold hold_;
  grpc::ServerContext context_;
  grpc::ByteBuffer bytes_;
  grpc::ServerAsyncWriter<grpc::ByteBuffer> writer_{&context_};
  std::string service_name_;
  State known_ = HealthCheckResponse::UNKNOWN;
  bool writing_ = false;
  bool closing_ = false;
  bool gone_ = false;  // the client
  int users_ = 2;
  Completion accepted_ = CompletionFor<&Watch::OnAccepted>(this);
  Completion written_ = CompletionFor<&Watch::OnWritten>(this);
  Completion closed_ = CompletionFor<&Watch::OnClosed>(this);
  Completion ended_ = CompletionFor<&Watch::OnEnded>(this);
};

HealthService::HealthService(std::vector<std::string> services)
    : services_(services.begin(), services.end()),
      check_(&grpc_service_, &RawService::RequestCheck,
             [this](const HealthCheckRequest& request, absl::Time,
                    const std::shared_ptr<Cancellation>&, const auto& done) {
               HealthCheckResponse response;
               {
                 absl::MutexLock lock(&mutex_);
                 response.set_status(StateOf(request.service()));
               }
               if (response.status() == HealthCheckResponse::SERVICE_UNKNOWN) {
                 done(absl::NotFoundError("service: the server has no such service"));
               } else {
                 done(std::move(response));
               }
             }) {}

void HealthService::Serve(EventLoops* loops) {
  loops_ = loops;
  check_.Serve(loops, 0);
  Watch::Accept(this);
}

void HealthService::SetServing(bool serving) {
  absl::MutexLock lock(&mutex_);
  if (std::exchange(serving_, serving) == serving) return;
  for (Watch* watch : watches_) watch->Update();
}

void HealthService::Shutdown() {
  absl::MutexLock lock(&mutex_);
  serving_ = false;
  stopped_ = true;
  for (Watch* watch : watches_) watch->Update();
}

HealthService::State HealthService::StateOf(const std::string& service) const {
  if (!service.empty() && services_.count(service) == 0) {
    return HealthCheckResponse::SERVICE_UNKNOWN;
  }
  return serving_ ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

}  // namespace octogate::gateway
