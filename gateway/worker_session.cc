#include "gateway/worker_session.h"

#include <algorithm>
#include <list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/grpc_status.h"
#include "common/status.h"
#include "gateway/message_codec.h"

namespace octogate::gateway {
namespace {

constexpr char kMethod[] = "/octogate.v1.Worker/Session";

// Deadlines that are closer together than this are looked after together.
constexpr absl::Duration kDeadlineGrain = absl::Milliseconds(1);

}  // namespace

class WorkerSession::Call final : public ModelCall {
 public:
  Call(std::shared_ptr<WorkerSession> session, absl::Time deadline)
      : session(std::move(session)), deadline(deadline) {}

  void Cancel() override { session->Cancel(this); }
  void Resume() override { session->Resume(this); }

  struct Held {
    v1::WorkerSessionEvent event;
    int64_t bytes;
  };

  const std::shared_ptr<WorkerSession> session;
  const absl::Time deadline;

  // Of the loop's thread.
  ModelClient::MessageCallback on_message;
  ModelClient::DoneCallback on_done;
  bool answered = false;  // a message with `end` has been delivered

  // Guarded by the session's mutex.
  uint64_t id = 0;
  std::string start;        // a message with the command, until it is written
  bool cancel_due = false;  // to be written
  int64_t credit_due = 0;   // to be written
  bool queued = false;      // in outgoing_
  bool waking = false;      // in to_wake_
  int64_t credit = kWindowBytes;
  int64_t consumed = 0;  // since credit was given last
  bool cancelled = false;
  bool paused = false;
  bool resumed = false;  // since the last delivery began
  bool over = false;
  std::list<Held> held;  // costs nothing while it is empty
  absl::Status failure;  // behind what is held: the stream has ended
};

std::shared_ptr<WorkerSession> WorkerSession::Create(EventLoops* loops, size_t loop,
                                                     std::shared_ptr<grpc::Channel> channel,
                                                     std::string address) {
  return std::shared_ptr<WorkerSession>(
      new WorkerSession(loops, loop, std::move(channel), std::move(address)));
}

WorkerSession::WorkerSession(EventLoops* loops, size_t loop, std::shared_ptr<grpc::Channel> channel,
                             std::string address)
    : loops_(loops), loop_(loop), channel_(std::move(channel)), address_(std::move(address)) {}

std::shared_ptr<ModelCall> WorkerSession::Generate(const v1::WorkerGenerateRequest& request,
                                                   absl::Time deadline,
                                                   ModelClient::MessageCallback& on_message,
                                                   ModelClient::DoneCallback& on_done) {
  auto call = std::make_shared<Call>(shared_from_this(), deadline);
  v1::WorkerSessionRequest message;
  v1::WorkerSessionCommand& command = *message.add_commands();
  v1::WorkerSessionStart& start = *command.mutable_start();
  start.set_credit_bytes(kWindowBytes);
  if (deadline != absl::InfiniteFuture()) {
    start.set_timeout_us(std::max<int64_t>(1, absl::ToInt64Microseconds(deadline - absl::Now())));
  }
  // Lent for the encoding, so that it is not copied.
  start.set_allocated_request(const_cast<v1::WorkerGenerateRequest*>(&request));
  size_t bytes;
  {
    absl::MutexLock lock(&mutex_);
    if (ended_ || closed_) {
      (void)start.release_request();
      return nullptr;
    }
    call->id = last_id_ + 1;
    command.set_call_id(call->id);
    message.SerializeToString(&call->start);
    (void)start.release_request();
    bytes = call->start.size();
    if (bytes <= kMaxMessageBytes) {
      last_id_ = call->id;
      call->on_message = std::move(on_message);
      call->on_done = std::move(on_done);
      calls_.emplace(call->id, call);
      Queue(call);
      ArmDeadline(deadline);
      if (stream_ == nullptr) {
        Open();
      } else {
        WriteSoon();
      }
      return call;
    }
    call->over = true;
  }
  std::exchange(on_done, nullptr)(Named(
      absl::ResourceExhaustedError(absl::StrCat("the request has ", bytes, " bytes, more than the ",
                                                kMaxMessageBytes, " that a worker takes"))));
  return call;
}

void WorkerSession::Open() {
  self_ = shared_from_this();
  hold_.emplace(loops_);
  Keep();  // until the stream and the calls have ended
  stream_ = grpc::GenericStub(channel_).PrepareCall(&context_, kMethod, loops_->queue(loop_));
  stream_->StartCall(&started_done_);
}

void WorkerSession::Close() {
  absl::MutexLock lock(&mutex_);
  closed_ = true;
  if (calls_.empty() && stream_ != nullptr) context_.TryCancel();
}

void WorkerSession::Drop() {
  std::shared_ptr<WorkerSession> self;
  // Calls hold the session.
  std::deque<CallPtr> outgoing;
  std::vector<CallPtr> to_wake;
  {
    absl::MutexLock lock(&mutex_);
    if (--operations_ > 0) return;
    outgoing.swap(outgoing_);
    to_wake.swap(to_wake_);
    hold_.reset();
    self = std::move(self_);
  }
}

void WorkerSession::OnStarted(bool ok) {
  if (!ok) {
    Finish();
    return;
  }
  {
    absl::MutexLock lock(&mutex_);
    open_ = true;
    Write();
  }
  stream_->Read(&bytes_, &read_done_);
}

void WorkerSession::OnRead(bool ok) {
  if (ok) {
    if (ParseMessage(bytes_, &response_).ok()) {
      for (v1::WorkerSessionEvent& event : *response_.mutable_events()) OnEvent(event);
    } else {
      violation_ = absl::InternalError("it sent bytes that are no message of a session");
    }
    if (violation_.ok()) {
      stream_->Read(&bytes_, &read_done_);
      return;
    }
    context_.TryCancel();
  }
  Finish();
}

void WorkerSession::Finish() {
  {
    absl::MutexLock lock(&mutex_);
    ended_ = true;
  }
  stream_->Finish(&finish_status_, &finish_done_);
}

void WorkerSession::OnFinished(bool) {
  const std::shared_ptr<WorkerSession> self = shared_from_this();
  absl::Status status = violation_.ok() ? FromGrpcStatus(finish_status_, context_) : violation_;
  if (status.ok() || absl::IsCancelled(status)) {
    status = absl::UnavailableError("the stream ended before the answer did");
  } else if (absl::IsInvalidArgument(status)) {
    // Of the session, which no call is to blame for.
    status = absl::InternalError(status.message());
  }
  status = Named(status);
  std::vector<CallPtr> calls;
  {
    absl::MutexLock lock(&mutex_);
    finished_ = true;
    for (const auto& [id, call] : calls_) {
      if (call->held.empty()) {
        calls.push_back(call);
      } else {
        call->failure = status;
      }
    }
  }
  for (const CallPtr& call : calls) End(call, status, /*tell_worker=*/false);
  ReleaseIfOver();
}

void WorkerSession::ReleaseIfOver() {
  {
    absl::MutexLock lock(&mutex_);
    if (!finished_ || !calls_.empty() || released_) return;
    released_ = true;
    if (deadline_set_) deadline_alarm_.Cancel();
  }
  Drop();
}

void WorkerSession::OnEvent(v1::WorkerSessionEvent& event) {
  const auto bytes = event.has_message() ? static_cast<int64_t>(event.message().ByteSizeLong()) : 0;
  CallPtr call;
  bool overdrawn = false;
  {
    absl::MutexLock lock(&mutex_);
    const auto place = calls_.find(event.call_id());
    if (place == calls_.end()) {
      // It may have ended here a moment ago.
      if (event.call_id() > last_id_) {
        violation_ = absl::InternalError(
            absl::StrCat("it sent an event of call ", event.call_id(), ", which was not started"));
      }
      return;
    }
    call = place->second;
    if (call->cancelled) return;
    overdrawn = event.has_message() && call->credit <= 0;
    call->credit -= bytes;
    if (!overdrawn && (call->paused || !call->held.empty())) {
      call->held.push_back({std::move(event), bytes});
      return;
    }
    call->resumed = false;
  }
  if (overdrawn) {
    End(call, Named(absl::InternalError("it sent more than the call had credit for")),
        /*tell_worker=*/true);
    return;
  }
  Deliver(call, event, bytes);
}

void WorkerSession::Deliver(const CallPtr& call, v1::WorkerSessionEvent& event, int64_t bytes) {
  Flow wanted = Flow::kContinue;
  if (event.has_message()) {
    call->answered |= event.message().has_end();
    wanted = call->on_message(*event.mutable_message());
  }
  if (event.has_end()) {
    const v1::WorkerSessionEnd& end = event.end();
    absl::Status status = FromPeerStatus(end.code(), end.message(), end.retry_after_ms());
    if (status.ok() && !call->answered) {
      status = absl::UnavailableError("the call ended before the answer did");
    }
    End(call, Named(status), /*tell_worker=*/false);
    return;
  }
  absl::MutexLock lock(&mutex_);
  call->paused = wanted == Flow::kPause && !call->resumed;
  call->consumed += bytes;
  if (call->consumed < kWindowBytes / 2 || ended_) return;
  call->credit += call->consumed;
  call->credit_due += call->consumed;
  call->consumed = 0;
  Queue(call);
  WriteSoon();
}

void WorkerSession::DeliverHeld(const CallPtr& call) {
  for (;;) {
    Call::Held held;
    absl::Status failure;
    {
      absl::MutexLock lock(&mutex_);
      if (call->over || call->paused) return;
      if (call->held.empty()) {
        failure = call->failure;
        if (failure.ok()) return;
      } else {
        held = std::move(call->held.front());
        call->held.pop_front();
        call->resumed = false;
      }
    }
    if (!failure.ok()) {
      End(call, failure, /*tell_worker=*/false);
      return;
    }
    Deliver(call, held.event, held.bytes);
  }
}

void WorkerSession::End(const CallPtr& call, const absl::Status& status, bool tell_worker) {
  {
    absl::MutexLock lock(&mutex_);
    if (call->over) return;
    call->over = true;
    call->held.clear();
    call->credit_due = 0;
    calls_.erase(call->id);
    if (!call->start.empty()) {
      // The worker never hears of it.
      std::string().swap(call->start);
      if (++unsent_ * 2 > outgoing_.size() + 64) ForgetUnsent();
    } else if (tell_worker && !ended_) {
      call->cancel_due = true;
      Queue(call);
      WriteSoon();
    }
    if (closed_ && calls_.empty()) context_.TryCancel();
  }
  call->on_message = nullptr;
  std::exchange(call->on_done, nullptr)(status);
  ReleaseIfOver();
}

void WorkerSession::ForgetUnsent() {
  std::deque<CallPtr> kept;
  for (CallPtr& call : outgoing_) {
    call->queued = !call->start.empty() || call->cancel_due || call->credit_due > 0;
    if (call->queued) kept.push_back(std::move(call));
  }
  outgoing_.swap(kept);
  unsent_ = 0;
}

void WorkerSession::Resume(Call* call) {
  absl::MutexLock lock(&mutex_);
  if (call->over) return;
  call->resumed = true;
  if (!call->paused) return;
  call->paused = false;
  if (!call->held.empty() || !call->failure.ok()) Wake(call);
}

void WorkerSession::Cancel(Call* call) {
  absl::MutexLock lock(&mutex_);
  if (call->over || call->cancelled) return;
  call->cancelled = true;
  Wake(call);
}

void WorkerSession::Wake(Call* call) {
  if (call->waking) return;
  call->waking = true;
  to_wake_.push_back(calls_.find(call->id)->second);
  if (waking_) return;
  waking_ = true;
  Keep();
  // Not in this call: callbacks come from the loop, one after the other.
  if (loops_->Runs(loop_)) {
    loops_->Defer(wake_done_);
  } else {
    wake_alarm_.Set(loops_->queue(loop_), AtOnce(), &wake_done_);
  }
}

void WorkerSession::OnWake(bool) {
  std::vector<CallPtr> calls;
  {
    absl::MutexLock lock(&mutex_);
    waking_ = false;
    calls.swap(to_wake_);
    for (const CallPtr& call : calls) call->waking = false;
  }
  for (const CallPtr& call : calls) {
    bool cancelled;
    {
      absl::MutexLock lock(&mutex_);
      cancelled = call->cancelled;
    }
    if (cancelled) {
      End(call, Named(absl::CancelledError("the call was cancelled")), /*tell_worker=*/true);
    } else {
      DeliverHeld(call);
    }
  }
  Drop();
}

void WorkerSession::ArmDeadline(absl::Time deadline) {
  if (deadline >= next_deadline_) return;
  next_deadline_ = deadline;
  if (deadline_set_) {
    deadline_alarm_.Cancel();  // OnDeadline sets it again.
    return;
  }
  deadline_set_ = true;
  Keep();
  deadline_alarm_.Set(loops_->queue(loop_), absl::ToChronoTime(deadline), &deadline_done_);
}

void WorkerSession::OnDeadline(bool expired) {
  std::vector<CallPtr> calls;
  {
    absl::MutexLock lock(&mutex_);
    deadline_set_ = false;
    absl::Time next = std::exchange(next_deadline_, absl::InfiniteFuture());
    if (expired) {
      const absl::Time now = absl::Now();
      next = absl::InfiniteFuture();
      for (const auto& [id, call] : calls_) {
        if (call->deadline <= now) {
          calls.push_back(call);
        } else {
          next = std::min(next, std::max(call->deadline, now + kDeadlineGrain));
        }
      }
    }
    if (!released_) ArmDeadline(next);
  }
  for (const CallPtr& call : calls) {
    End(call, Named(absl::DeadlineExceededError("the time of the call is over")),
        /*tell_worker=*/true);
  }
  Drop();
}

void WorkerSession::Queue(const CallPtr& call) {
  if (call->queued) return;
  call->queued = true;
  outgoing_.push_back(call);
}

void WorkerSession::WriteSoon() {
  if (!open_ || ended_ || writing_ || flush_deferred_) return;
  // There is nobody to wait for where this is the only call.
  if (calls_.size() > 1 && loops_->Runs(loop_) && loops_->Defer(flush_)) {
    flush_deferred_ = true;
    Keep();
  } else {
    Write();
  }
}

void WorkerSession::Write() {
  if (!open_ || ended_ || writing_) return;
  buffer_.clear();
  while (!outgoing_.empty()) {
    Call& call = *outgoing_.front();
    if (!buffer_.empty() && buffer_.size() + call.start.size() > kMaxJoinedBytes) break;
    // Encoded messages put behind each other are the encoding of all their commands.
    buffer_.append(call.start);
    std::string().swap(call.start);
    if (call.credit_due > 0 || call.cancel_due) {
      v1::WorkerSessionRequest message;
      v1::WorkerSessionCommand& command = *message.add_commands();
      command.set_call_id(call.id);
      if (call.cancel_due) {
        command.mutable_cancel();
      } else {
        command.mutable_credit()->set_bytes(call.credit_due);
      }
      message.AppendToString(&buffer_);
      call.cancel_due = false;
      call.credit_due = 0;
    }
    call.queued = false;
    outgoing_.pop_front();
  }
  if (outgoing_.empty()) unsent_ = 0;
  if (buffer_.empty()) return;
  writing_ = true;
  Keep();
  const grpc::Slice slice(buffer_);
  stream_->Write(grpc::ByteBuffer(&slice, 1), &write_done_);
  if (buffer_.capacity() > 2 * kMaxJoinedBytes) std::string().swap(buffer_);
}

void WorkerSession::OnFlush(bool) {
  {
    absl::MutexLock lock(&mutex_);
    flush_deferred_ = false;
    Write();
  }
  Drop();
}

void WorkerSession::OnWritten(bool ok) {
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) ended_ = true;  // The read under way finds out, too.
    WriteSoon();
  }
  Drop();
}

absl::Status WorkerSession::Named(const absl::Status& status) const {
  if (status.ok()) return status;
  return Annotate(status, absl::StrCat("replica ", address_));
}

}  // namespace octogate::gateway
