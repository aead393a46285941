// The seam between the gateway and one replica of a model: a worker process behind gRPC
// (remote_model_client.h) or the worker inside this process (in_process_model_client.h).
//
// Calls are asynchronous. Callbacks come one after the other, never two at the same time, on a
// thread of the implementation or, before the call returns, on the caller's. They must not block.
// No lock of the implementation is held while they run, so that they may call the client again.
#ifndef OCTOGATE_GATEWAY_MODEL_CLIENT_H_
#define OCTOGATE_GATEWAY_MODEL_CLIENT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "octogate/v1/worker.pb.h"

namespace octogate::gateway {

// A call under way. Dropping the handle neither cancels nor waits. Callable from any thread, from
// callbacks too, and without effect once the call is done.
class ModelCall {
 public:
  virtual ~ModelCall() = default;

  // The call ends soon with CANCELLED, unless it ends otherwise first. Does not wait.
  virtual void Cancel() = 0;

  // Goes on after a message callback has returned kPause.
  virtual void Resume() = 0;
};

// What a consumer of messages wants next.
enum class Flow {
  kContinue,
  // No further message until Resume. Advice: a replica whose answers are bounded by max_tokens
  // alone may deliver all the same.
  kPause,
};

// Thread safety: all methods may be called from any thread. Calls under way keep what they need
// alive; the client may be destroyed before they are done.
class ModelClient {
 public:
  // The message may be moved from.
  using MessageCallback = std::function<Flow(v1::WorkerGenerateResponse& message)>;
  // Comes exactly once per call, last.
  using DoneCallback = std::function<void(const absl::Status& status)>;
  template <typename Response>
  using ResponseCallback = std::function<void(absl::StatusOr<Response> response)>;

  virtual ~ModelClient() = default;

  // Streams a generation. OK comes only after a message with `end`. A replica that cannot be
  // reached, or dies in mid-stream, is UNAVAILABLE; its address is in the message. `deadline` may
  // be infinite; it reaches the engine's scheduler, as Cancel does.
  virtual std::shared_ptr<ModelCall> Generate(const v1::WorkerGenerateRequest& request,
                                              absl::Time deadline, MessageCallback on_message,
                                              DoneCallback on_done) = 0;

  virtual std::shared_ptr<ModelCall> Score(const v1::WorkerScoreRequest& request,
                                           absl::Time deadline,
                                           ResponseCallback<v1::WorkerScoreResponse> on_done) = 0;

  virtual std::shared_ptr<ModelCall> Embed(const v1::WorkerEmbedRequest& request,
                                           absl::Time deadline,
                                           ResponseCallback<v1::WorkerEmbedResponse> on_done) = 0;

  // Also the probe of whether a replica is there.
  virtual std::shared_ptr<ModelCall> Info(absl::Time deadline,
                                          ResponseCallback<v1::WorkerInfoResponse> on_done) = 0;

  // Has it forget pages.
  virtual std::shared_ptr<ModelCall> FlushCache(
      const v1::WorkerFlushCacheRequest& request, absl::Time deadline,
      ResponseCallback<v1::WorkerFlushCacheResponse> on_done) = 0;

  // Asks what it has of a prompt.
  virtual std::shared_ptr<ModelCall> ExplainCache(
      const v1::WorkerExplainCacheRequest& request, absl::Time deadline,
      ResponseCallback<v1::WorkerExplainCacheResponse> on_done) = 0;

  // "host:port", or "in-process".
  virtual const std::string& address() const = 0;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_MODEL_CLIENT_H_
