// The client's side of Worker.Session: the generations of one event loop on one replica, over one
// stream.
//
// Commands that come while a write is under way, or while the loop has further operations to handle
// that have ended already, go out together. Each call has a credit of kWindowBytes, which the
// consumer's reading renews: a call that is paused holds back itself only, with at most its credit
// and one message in memory.
#ifndef OCTOGATE_GATEWAY_WORKER_SESSION_H_
#define OCTOGATE_GATEWAY_WORKER_SESSION_H_

#include <grpcpp/alarm.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "gateway/event_loop.h"
#include "gateway/model_client.h"
#include "octogate/v1/worker.pb.h"

namespace octogate::gateway {

// fresh -> opening -> open -> ended. All callbacks of its calls come on the session's loop. Stays
// alive until the stream has ended.
//
// Thread safety: all methods may be called from any thread.
class WorkerSession final : public std::enable_shared_from_this<WorkerSession> {
 public:
  static constexpr int64_t kWindowBytes = 64 << 10;
  // Commands are joined up to this.
  static constexpr size_t kMaxJoinedBytes = size_t{64} << 10;
  // What workers take; a longer request ends with RESOURCE_EXHAUSTED, and breaks no session.
  static constexpr size_t kMaxMessageBytes = size_t{4} << 20;

  // `loops` outlives the session. `address` is the name in messages.
  static std::shared_ptr<WorkerSession> Create(EventLoops* loops, size_t loop,
                                               std::shared_ptr<grpc::Channel> channel,
                                               std::string address);

  // As ModelClient::Generate, except that null is returned, and neither callback moved from, once
  // the stream has ended: another session is needed. The first call opens the stream.
  std::shared_ptr<ModelCall> Generate(const v1::WorkerGenerateRequest& request, absl::Time deadline,
                                      ModelClient::MessageCallback& on_message,
                                      ModelClient::DoneCallback& on_done);

  // No calls will follow: the stream ends with the last one. Once.
  void Close();

 private:
  class Call;
  using CallPtr = std::shared_ptr<Call>;

  WorkerSession(EventLoops* loops, size_t loop, std::shared_ptr<grpc::Channel> channel,
                std::string address);

  // Operations under way, each of which keeps the session.
  void Keep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { ++operations_; }
  void Drop();

  void Open() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnStarted(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFlush(bool ok);
  void OnWake(bool ok);
  void OnDeadline(bool ok);
  void Finish();
  void OnFinished(bool ok);
  void ReleaseIfOver();

  void Resume(Call* call);
  void Cancel(Call* call);

  void OnEvent(v1::WorkerSessionEvent& event);
  void Deliver(const CallPtr& call, v1::WorkerSessionEvent& event, int64_t bytes);
  // Delivers what has been held back for a call that has been resumed.
  void DeliverHeld(const CallPtr& call);
  // The last of a call. `tell_worker`: it does not know.
  void End(const CallPtr& call, const absl::Status& status, bool tell_worker);
  // Takes what need not be written any more out of outgoing_.
  void ForgetUnsent() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Named(const absl::Status& status) const;

  void Queue(const CallPtr& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Writes what is queued, if nothing is being written; at once, or when the loop has handled what
  // has ended by now.
  void WriteSoon() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Write() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Has OnWake look after the call, on the loop.
  void Wake(Call* call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Has OnDeadline run by then.
  void ArmDeadline(absl::Time deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  EventLoops* const loops_;
  const size_t loop_;
  std::optional<EventLoops::Hold> hold_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::string address_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
  std::shared_ptr<WorkerSession> self_;  // while operations are under way

  // Of the loop's thread.
  grpc::ByteBuffer bytes_;
  v1::WorkerSessionResponse response_;
  grpc::Status finish_status_;
  absl::Status violation_;  // of the protocol, by the worker

  absl::Mutex mutex_;
  absl::flat_hash_map<uint64_t, CallPtr> calls_ ABSL_GUARDED_BY(mutex_);
  std::deque<CallPtr> outgoing_ ABSL_GUARDED_BY(mutex_);  // that have commands to be written
  std::vector<CallPtr> to_wake_ ABSL_GUARDED_BY(mutex_);  // cancelled or resumed
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  int operations_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t unsent_ ABSL_GUARDED_BY(mutex_) = 0;  // of outgoing_: ended before they were written
  std::string buffer_ ABSL_GUARDED_BY(mutex_);
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // gRPC has said how it ended
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool flush_deferred_ ABSL_GUARDED_BY(mutex_) = false;
  bool waking_ ABSL_GUARDED_BY(mutex_) = false;
  bool deadline_set_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time next_deadline_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  grpc::Alarm wake_alarm_;
  grpc::Alarm deadline_alarm_;

  Completion started_done_ = CompletionFor<&WorkerSession::OnStarted>(this);
  Completion read_done_ = CompletionFor<&WorkerSession::OnRead>(this);
  Completion write_done_ = CompletionFor<&WorkerSession::OnWritten>(this);
  Completion finish_done_ = CompletionFor<&WorkerSession::OnFinished>(this);
  Completion wake_done_ = CompletionFor<&WorkerSession::OnWake>(this);
  Completion deadline_done_ = CompletionFor<&WorkerSession::OnDeadline>(this);
  const Completion flush_ = CompletionFor<&WorkerSession::OnFlush>(this);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_WORKER_SESSION_H_
