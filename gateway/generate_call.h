// One Gateway.Generate call on the server's side: from the bytes of the request to the last event.
#ifndef OCTOGATE_GATEWAY_GENERATE_CALL_H_
#define OCTOGATE_GATEWAY_GENERATE_CALL_H_

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/byte_buffer.h>

#include <atomic>
#include <deque>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "gateway/cache/answer_lookup.h"
#include "gateway/event_loop.h"
#include "gateway/gateway_service.h"
#include "gateway/query.h"

namespace octogate::gateway {

// accepted -> looked up (its answer may be kept) -> admitted -> events written one at a time ->
// status written -> gone.
//
// While a write is under way, or the loop has further operations to handle that have ended already,
// tokens behind the first wait, and those of the same node are joined to one message. When more
// than kMaxPendingBytes wait, the query is held back.
//
// Owns itself: destroyed when gRPC has no operation of it left and the query is done.
class GenerateCall final : public QuerySink {
 public:
  static constexpr size_t kMaxPendingBytes = size_t{64} << 10;

  // Waits for the next call on the loop.
  static void Accept(GatewayService* service, size_t loop);

  // The call stays until as many Drop calls have followed as Keep calls and its own two ends.
  void Keep() { users_.fetch_add(1); }
  void Drop();

  // Ends the query, and later the call, where they are past their deadline.
  void OnTick(absl::Time now);

  Flow OnEvent(v1::GenerateResponse& event) override;
  void OnDone(const absl::Status& status, v1::GenerateResponse* finished) override;

 private:
  // The client is told first that time is up, and cut off if it does not listen.
  static constexpr absl::Duration kExpireAfter = absl::Milliseconds(100);
  static constexpr absl::Duration kAbandonAfter = absl::Seconds(5);

  struct Pending {
    v1::GenerateResponse event;
    size_t bytes;
  };

  GenerateCall(GatewayService* service, size_t loop);

  void OnAccepted(bool ok);
  // What comes before admission, and comes of it.
  void LookUp();
  void OnLookedUp(AnswerLookup::Result result);
  void OnLookedUpLater(bool ok);
  void Admit();
  void OnTurnDecided(const absl::Status& decision);
  void OnTurn(bool ok);
  void StartQuery();
  void OnFlush(bool ok);
  void OnWritten(bool ok);
  void OnCallEnded(bool ok);
  void OnStatusWritten(bool ok);

  void AddPending(v1::GenerateResponse& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Starts the next write, or the last one, if none is under way.
  void Write() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The same when the loop has handled what has ended by now.
  void WriteSoon() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Either: the first tokens, for which somebody waits, go at once, later ones soon.
  void WriteTokens() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  GatewayService* const service_;
  const size_t loop_;
  EventLoops::Hold hold_;
  grpc::ServerContext context_;
  grpc::ByteBuffer request_bytes_;
  grpc::ServerAsyncWriter<grpc::ByteBuffer> writer_{&context_};
  grpc::Alarm turn_;
  grpc::Alarm looked_up_alarm_;
  v1::GenerateRequest request_;
  std::string tenant_;
  absl::Time deadline_;
  absl::Time admitted_at_ = absl::InfiniteFuture();
  absl::Time accepted_at_;
  std::shared_ptr<const GraphState> graph_;  // that the answer was looked for in
  std::unique_ptr<AnswerRecorder> answer_;

  absl::Mutex mutex_;
  std::shared_ptr<AnswerLookup> lookup_ ABSL_GUARDED_BY(mutex_);  // while it goes on
  std::shared_ptr<Query> query_ ABSL_GUARDED_BY(mutex_);
  std::deque<Pending> pending_ ABSL_GUARDED_BY(mutex_);
  size_t pending_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool flush_deferred_ ABSL_GUARDED_BY(mutex_) = false;
  bool streaming_ ABSL_GUARDED_BY(mutex_) = false;  // tokens have been written
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;   // the client has gone
  bool done_ ABSL_GUARDED_BY(mutex_) = false;     // status_ is known
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;  // the status is being written
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  // The status that is to be written, and gRPC's word that the call has ended.
  std::atomic<int> users_{2};

  Completion accepted_ = CompletionFor<&GenerateCall::OnAccepted>(this);
  Completion looked_up_ = CompletionFor<&GenerateCall::OnLookedUpLater>(this);
  Completion turn_came_ = CompletionFor<&GenerateCall::OnTurn>(this);
  const Completion flush_ = CompletionFor<&GenerateCall::OnFlush>(this);
  Completion written_ = CompletionFor<&GenerateCall::OnWritten>(this);
  Completion call_ended_ = CompletionFor<&GenerateCall::OnCallEnded>(this);
  Completion status_written_ = CompletionFor<&GenerateCall::OnStatusWritten>(this);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_GENERATE_CALL_H_
