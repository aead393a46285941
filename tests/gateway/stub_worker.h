// A worker without a model: answers by a script, for tests of the gateway and as the far end of its
// benchmark.
//
// A query that begins with "stub " is the script: words KEY=VALUE, the rest are the defaults.
//
//   tokens=5         tokens of the answer, one message each
//   text=ab          text of each token; "%" is replaced by its number, from 1, and "@" by the
//                    time at which it is written, in microseconds since 1970
//   echo=1           one token instead: "SYSTEM|QUERY", the system message and the query
//   logprob=-0.1     of each token
//   first_us=1000    pause before the first token
//   delay_us=1000    pause between tokens
//   fail_after=2     the call fails after so many tokens ...
//   code=14          ... with this status
//   length=1         the answer ends for its length
#ifndef OCTOGATE_TESTS_GATEWAY_STUB_WORKER_H_
#define OCTOGATE_TESTS_GATEWAY_STUB_WORKER_H_

#include <grpcpp/server.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "octogate/v1/worker.grpc.pb.h"
#include "workers/server/blocking_pool.h"
#include "workers/server/worker_session.h"

namespace octogate::gateway {

struct StubScript {
  int tokens = 3;
  std::string text = "t% ";
  bool echo = false;
  double logprob = -0.1;
  int64_t first_us = 0;
  int64_t delay_us = 0;
  int fail_after = -1;  // never
  int code = 14;
  bool length = false;
};

struct StubWorkerOptions {
  // Port 0 picks one.
  std::string address = "127.0.0.1:0";
  std::string model = "stub";
  StubScript defaults;
  workers::WorkerSessionLimits session_limits;
};

// Thread safety: all methods may be called from any thread.
class StubWorker final : public v1::Worker::CallbackService, private workers::SessionBackend {
 public:
  // Listens; aborts the process where it cannot.
  explicit StubWorker(const StubWorkerOptions& options = {});
  // Cancels what is under way.
  ~StubWorker() override;

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // Info says so from now on; Generate is UNAVAILABLE.
  void SetDraining(bool draining) { draining_ = draining; }

  // Info says this, too, from now on.
  void SetInfo(const v1::WorkerInfoResponse& info) {
    const std::lock_guard<std::mutex> lock(mutex_);
    info_ = info;
  }

  // What a flush is answered with from now on. Until then: UNIMPLEMENTED, as by a worker that knows
  // none.
  void SetFlushed(const v1::WorkerFlushCacheResponse& flushed) {
    const std::lock_guard<std::mutex> lock(mutex_);
    flushed_ = flushed;
  }
  v1::WorkerFlushCacheRequest last_flush() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return last_flush_;
  }

  // The same of ExplainCache.
  void SetExplained(const v1::WorkerExplainCacheResponse& explained) {
    const std::lock_guard<std::mutex> lock(mutex_);
    explained_ = explained;
  }
  v1::WorkerExplainCacheRequest last_question() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return last_question_;
  }

  // Of the last generation: the messages of its conversation, and whose it was.
  v1::WorkerGenerateRequest last_request() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return last_request_;
  }
  // What queries without a script are answered with from now on.
  void SetDefaults(const StubScript& script) {
    const std::lock_guard<std::mutex> lock(mutex_);
    defaults_ = script;
  }

  int sessions() const { return sessions_; }
  int started() const { return started_; }      // generations, of sessions or not
  int cancelled() const { return cancelled_; }  // of these, by their client or deadline
  int running() const { return running_; }

  grpc::ServerWriteReactor<v1::WorkerGenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::WorkerGenerateRequest* request) override;
  grpc::ServerBidiReactor<v1::WorkerSessionRequest, v1::WorkerSessionResponse>* Session(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context,
                                  const v1::WorkerScoreRequest* request,
                                  v1::WorkerScoreResponse* response) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context,
                                  const v1::WorkerEmbedRequest* request,
                                  v1::WorkerEmbedResponse* response) override;
  grpc::ServerUnaryReactor* Info(grpc::CallbackServerContext* context,
                                 const v1::WorkerInfoRequest* request,
                                 v1::WorkerInfoResponse* response) override;
  grpc::ServerUnaryReactor* FlushCache(grpc::CallbackServerContext* context,
                                       const v1::WorkerFlushCacheRequest* request,
                                       v1::WorkerFlushCacheResponse* response) override;
  grpc::ServerUnaryReactor* ExplainCache(grpc::CallbackServerContext* context,
                                         const v1::WorkerExplainCacheRequest* request,
                                         v1::WorkerExplainCacheResponse* response) override;

 private:
  class Answer;
  class Reactor;
  class SessionCall;

  absl::StatusOr<std::shared_ptr<Call>> Generate(const v1::WorkerGenerateRequest& request,
                                                 absl::Time deadline, OnMessage on_message,
                                                 OnDone on_done) override;

  // Notes that a generation has begun, and says what it answers by default.
  StubScript Begin(const v1::WorkerGenerateRequest& request);

  const StubWorkerOptions options_;
  mutable std::mutex mutex_;
  // The next seven are guarded by mutex_.
  StubScript defaults_;
  v1::WorkerGenerateRequest last_request_;
  v1::WorkerInfoResponse info_;
  v1::WorkerFlushCacheRequest last_flush_;
  std::optional<v1::WorkerFlushCacheResponse> flushed_;
  v1::WorkerExplainCacheRequest last_question_;
  std::optional<v1::WorkerExplainCacheResponse> explained_;
  std::atomic<bool> draining_{false};
  std::atomic<int> sessions_{0};
  std::atomic<int> started_{0};
  std::atomic<int> cancelled_{0};
  std::atomic<int> running_{0};
  workers::BlockingPool pool_{2, 256};
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_STUB_WORKER_H_
