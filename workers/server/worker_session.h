// The server's side of Worker.Session: many generations over one stream.
//
// While a write is under way, what the calls generate waits; then as much as fits goes out in one
// message, one piece of each call after the other. What a call generates beyond its credit waits
// too, joined to pieces, for that call only: max_tokens bounds it.
//
// Thread safety: gRPC and the backend call a session from their own threads.

#ifndef OCTOGATE_WORKERS_SERVER_WORKER_SESSION_H_
#define OCTOGATE_WORKERS_SERVER_WORKER_SESSION_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <cstddef>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "octogate/v1/worker.pb.h"
#include "workers/server/blocking_pool.h"

namespace octogate::workers {

// What generates. Thread-safe; outlives the sessions and what it has started.
class SessionBackend {
 public:
  class Call {
   public:
    virtual ~Call() = default;
    // The call ends soon, with CANCELLED if it has not ended before. Does not wait.
    virtual void Cancel() = 0;
    // All that the call has delivered has been written. For sources that can be held back. Comes
    // from one thread after the other; must not block.
    virtual void OnSent() {}
  };
  using OnMessage = std::function<void(v1::WorkerGenerateResponse)>;
  using OnDone = std::function<void(const absl::Status&)>;

  virtual ~SessionBackend() = default;

  // Starts a call. After an OK return, `on_message` gets every piece and `on_done` the end, once
  // and last, from any thread, this one included; a message with `end` is followed by OK at once.
  // An error is returned, and no callback called, where the call cannot start.
  virtual absl::StatusOr<std::shared_ptr<Call>> Generate(const v1::WorkerGenerateRequest& request,
                                                         absl::Time deadline, OnMessage on_message,
                                                         OnDone on_done) = 0;
};

struct WorkerSessionLimits {
  // Calls of one session whose end has not been written; more are refused. As many refusals may
  // wait to be written; then no further commands are read.
  size_t max_calls = 4096;
  // Commands in one message; more end the session.
  int max_commands = 8192;
  // Pieces are joined up to the first, messages filled up to the second.
  size_t max_piece_bytes = size_t{16} << 10;
  size_t max_message_bytes = size_t{64} << 10;
  // Credit of a call that names none.
  int64_t default_credit_bytes = 64 << 10;
  // Requests from this size on start on the pool, since reading their prompts takes long enough to
  // keep the commands behind them waiting.
  size_t long_request_bytes = size_t{16} << 10;
};

// Serves one stream. The result belongs to gRPC. `backend` and `pool` outlive the server.
grpc::ServerBidiReactor<v1::WorkerSessionRequest, v1::WorkerSessionResponse>* ServeSession(
    SessionBackend* backend, BlockingPool* pool, const WorkerSessionLimits& limits = {});

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_WORKER_SESSION_H_
