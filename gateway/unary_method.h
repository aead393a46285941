// A unary RPC over completion queues: bytes in, a checked request to a handler, its answer out.
#ifndef OCTOGATE_GATEWAY_UNARY_METHOD_H_
#define OCTOGATE_GATEWAY_UNARY_METHOD_H_

#include <grpcpp/completion_queue.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/async_unary_call.h>
#include <grpcpp/support/byte_buffer.h>

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/grpc_status.h"
#include "gateway/event_loop.h"
#include "gateway/message_codec.h"
#include "gateway/request_validation.h"

namespace octogate::gateway {

// Handles requests that are valid. Must not block; `done` is called exactly once, from any thread.
template <typename Request, typename Response>
using UnaryHandler = std::function<void(const Request& request, absl::Time deadline,
                                        std::shared_ptr<Cancellation> cancellation,
                                        std::function<void(absl::StatusOr<Response>)> done)>;

// Serves one method of `Service` (a raw asynchronous one) for as long as the server runs. Outlives
// the server's queues.
template <typename Service, typename Request, typename Response>
class UnaryMethod {
 public:
  // The generated RequestX.
  using Accept = void (Service::*)(grpc::ServerContext*, grpc::ByteBuffer*,
                                   grpc::ServerAsyncResponseWriter<grpc::ByteBuffer>*,
                                   grpc::CompletionQueue*, grpc::ServerCompletionQueue*, void*);

  UnaryMethod(Service* service, Accept accept, UnaryHandler<Request, Response> handler)
      : service_(service), accept_(accept), handler_(std::move(handler)) {}

  // Takes calls on a loop from now on.
  void Serve(EventLoops* loops, size_t loop) { new Call(this, loops, loop); }

 private:
  // Owns itself: gone when the answer is written and the call has ended.
  class Call {
   public:
    Call(UnaryMethod* method, EventLoops* loops, size_t loop)
        : method_(method), loops_(loops), loop_(loop), hold_(loops) {
      context_.AsyncNotifyWhenDone(&ended_);
      auto* queue = static_cast<grpc::ServerCompletionQueue*>(loops->queue(loop));
      (method_->service_->*method_->accept_)(&context_, &bytes_, &writer_, queue, queue,
                                             &accepted_);
    }

   private:
    void OnAccepted(bool ok) {
      if (!ok) {  // The server shuts down.
        delete this;
        return;
      }
      new Call(method_, loops_, loop_);
      Request request;
      absl::Status status = ParseMessage(bytes_, &request);
      bytes_.Clear();
      if (status.ok()) status = ValidateRequest(request);
      if (!status.ok()) {
        Answer(status);
        return;
      }
      method_->handler_(request, DeadlineOf(context_), cancellation_,
                        [this](absl::StatusOr<Response> response) { Answer(response); });
    }

    void Answer(const absl::StatusOr<Response>& response) {
      if (response.ok()) {
        writer_.Finish(SerializeMessage(*response), grpc::Status::OK, &answered_);
        return;
      }
      AddRetryHint(response.status(), &context_);
      writer_.FinishWithError(ToGrpcStatus(response.status()), &answered_);
    }

    void OnEnded(bool) {
      if (context_.IsCancelled()) cancellation_->Cancel();
      Drop();
    }

    void OnAnswered(bool) { Drop(); }

    void Drop() {
      if (users_.fetch_sub(1) == 1) delete this;
    }

    UnaryMethod* const method_;
    EventLoops* const loops_;
    const size_t loop_;
    const EventLoops::Hold hold_;
    grpc::ServerContext context_;
    grpc::ByteBuffer bytes_;
    grpc::ServerAsyncResponseWriter<grpc::ByteBuffer> writer_{&context_};
    const std::shared_ptr<Cancellation> cancellation_ = std::make_shared<Cancellation>();
    std::atomic<int> users_{2};
    Completion accepted_ = CompletionFor<&Call::OnAccepted>(this);
    Completion answered_ = CompletionFor<&Call::OnAnswered>(this);
    Completion ended_ = CompletionFor<&Call::OnEnded>(this);
  };

  Service* const service_;
  const Accept accept_;
  const UnaryHandler<Request, Response> handler_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_UNARY_METHOD_H_
