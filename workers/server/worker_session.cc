#include "workers/server/worker_session.h"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <list>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/grpc_status.h"
#include "common/status.h"
#include "workers/server/generate_response.h"

namespace octogate::workers {
namespace {

constexpr int64_t kMaxCreditBytes = int64_t{1} << 30;
constexpr absl::Duration kMaxTimeout = absl::Hours(24 * 365);
constexpr absl::Duration kRetryAfter = absl::Milliseconds(100);

absl::Status ValidateCommand(const v1::WorkerSessionCommand& command, uint64_t last_id) {
  const uint64_t id = command.call_id();
  switch (command.command_case()) {
    case v1::WorkerSessionCommand::kStart:
      if (id <= last_id) {
        return absl::InvalidArgumentError(absl::StrCat(
            "start of call ", id, ": every start needs a larger call_id than the one before it",
            last_id == 0 ? ", and the first at least 1" : absl::StrCat(", which was ", last_id)));
      }
      if (command.start().timeout_us() < 0) {
        return absl::InvalidArgumentError(absl::StrCat("start of call ", id, ": timeout_us is ",
                                                       command.start().timeout_us(),
                                                       "; it must not be negative"));
      }
      if (command.start().credit_bytes() < 0 || command.start().credit_bytes() > kMaxCreditBytes) {
        return absl::InvalidArgumentError(absl::StrCat("start of call ", id, ": credit_bytes is ",
                                                       command.start().credit_bytes(),
                                                       "; it must be 0 to ", kMaxCreditBytes));
      }
      return absl::OkStatus();
    case v1::WorkerSessionCommand::kCredit:
      if (command.credit().bytes() < 1 || command.credit().bytes() > kMaxCreditBytes) {
        return absl::InvalidArgumentError(absl::StrCat("credit of call ", id, ": bytes is ",
                                                       command.credit().bytes(),
                                                       "; it must be 1 to ", kMaxCreditBytes));
      }
      [[fallthrough]];
    case v1::WorkerSessionCommand::kCancel:
      if (id == 0 || id > last_id) {
        return absl::InvalidArgumentError(absl::StrCat("call ", id, " has not been started"));
      }
      return absl::OkStatus();
    case v1::WorkerSessionCommand::COMMAND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("a command for call ", id, " is none of start, cancel and credit"));
}

absl::Time DeadlineIn(int64_t timeout_us) {
  if (timeout_us == 0) return absl::InfiniteFuture();
  const absl::Duration timeout = absl::Microseconds(timeout_us);
  return timeout > kMaxTimeout ? absl::InfiniteFuture() : absl::Now() + timeout;
}

// Lives until gRPC has finished with it and the backend with its calls.
class Session final
    : public grpc::ServerBidiReactor<v1::WorkerSessionRequest, v1::WorkerSessionResponse>,
      public std::enable_shared_from_this<Session> {
 public:
  Session(SessionBackend* backend, BlockingPool* pool, const WorkerSessionLimits& limits)
      : backend_(backend), pool_(pool), limits_(limits) {}

  void Start() {
    self_ = shared_from_this();
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      {
        absl::MutexLock lock(&mutex_);
        no_more_commands_ = true;
      }
      Advance();
      return;
    }
    {
      // What the commands bring about is written together.
      absl::MutexLock lock(&mutex_);
      ++busy_;
    }
    absl::Status status;
    if (request_.commands_size() > limits_.max_commands) {
      status =
          absl::InvalidArgumentError(absl::StrCat("the message has ", request_.commands_size(),
                                                  " commands, more than ", limits_.max_commands));
    }
    for (int i = 0; status.ok() && i < request_.commands_size(); ++i) {
      v1::WorkerSessionCommand& command = *request_.mutable_commands(i);
      status = ValidateCommand(command, last_id_);
      if (status.ok()) Apply(command);
    }
    bool read = false;
    {
      absl::MutexLock lock(&mutex_);
      --busy_;
      if (!status.ok()) {
        error_ = status;
      } else if (calls_.size() < 2 * limits_.max_calls) {
        read = true;
      } else {
        read_held_back_ = true;
      }
    }
    if (!status.ok()) CancelAll();
    if (read) StartRead(&request_);
    Advance();
  }

  void OnWriteDone(bool ok) override {
    bool read = false;
    {
      absl::MutexLock lock(&mutex_);
      if (ok) {
        ++busy_;
      } else {
        writing_ = false;
        broken_ = true;
      }
      if (read_held_back_ && calls_.size() < 2 * limits_.max_calls) {
        read_held_back_ = false;
        read = true;
      }
    }
    if (ok) {
      for (const std::shared_ptr<Call>& call : written_) Sent(*call);
      written_.clear();
      absl::MutexLock lock(&mutex_);
      --busy_;
      writing_ = false;
    } else {
      CancelAll();
    }
    if (read) StartRead(&request_);
    Advance();
  }

  void OnCancel() override {
    {
      absl::MutexLock lock(&mutex_);
      broken_ = true;
    }
    CancelAll();
    Advance();
  }

  void OnDone() override {
    std::shared_ptr<Session> self;  // goes after the lock
    absl::MutexLock lock(&mutex_);
    self.swap(self_);
  }

 private:
  struct Piece {
    v1::WorkerGenerateResponse message;
    size_t bytes;
  };

  // Guarded by the session's mutex, but for its name.
  struct Call {
    Call(uint64_t id, int64_t credit) : id(id), credit(credit) {}

    const uint64_t id;
    int64_t credit;
    std::list<Piece> pieces;
    std::shared_ptr<SessionBackend::Call> running;  // once it has started
    bool queued = false;                            // in queue_
    bool cancelled = false;
    bool ended = false;
    bool sent_early = false;  // before `running` was known
    absl::Status status;      // once ended
  };

  void Apply(v1::WorkerSessionCommand& command) {
    switch (command.command_case()) {
      case v1::WorkerSessionCommand::kStart:
        last_id_ = command.call_id();
        StartCall(command.call_id(), *command.mutable_start());
        break;
      case v1::WorkerSessionCommand::kCancel:
        CancelCall(command.call_id());
        break;
      default:
        AddCredit(command.call_id(), command.credit().bytes());
    }
  }

  void StartCall(uint64_t id, v1::WorkerSessionStart& start) {
    const auto call = std::make_shared<Call>(
        id, start.credit_bytes() == 0 ? limits_.default_credit_bytes : start.credit_bytes());
    bool refused;
    {
      absl::MutexLock lock(&mutex_);
      refused = calls_.size() >= limits_.max_calls;
      calls_.emplace(id, call);
      if (broken_) call->cancelled = true;
    }
    if (refused) {
      End(call,
          WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(
                             "the session has ", limits_.max_calls, " calls under way, its limit")),
                         kRetryAfter));
      return;
    }
    const absl::Time deadline = DeadlineIn(start.timeout_us());
    if (start.request().ByteSizeLong() < limits_.long_request_bytes) {
      Run(call, start.request(), deadline);
      return;
    }
    auto request = std::make_shared<v1::WorkerGenerateRequest>(std::move(*start.mutable_request()));
    if (!pool_->Submit([self = shared_from_this(), call, request, deadline] {
          self->Run(call, *request, deadline);
        })) {
      End(call,
          WithRetryAfter(absl::ResourceExhaustedError("the queue is full: too many calls with long "
                                                      "prompts wait to be read"),
                         kRetryAfter));
    }
  }

  void Run(const std::shared_ptr<Call>& call, const v1::WorkerGenerateRequest& request,
           absl::Time deadline) {
    if (IsCancelled(*call)) {
      End(call, absl::CancelledError("the call was cancelled before it began"));
      return;
    }
    auto running = backend_->Generate(
        request, deadline,
        [self = shared_from_this(), call](v1::WorkerGenerateResponse message) {
          self->Add(call, std::move(message));
        },
        [self = shared_from_this(), call](const absl::Status& status) { self->End(call, status); });
    if (!running.ok()) {
      End(call, running.status());
      return;
    }
    bool cancelled;
    bool sent;
    {
      absl::MutexLock lock(&mutex_);
      if (!call->ended) call->running = *running;
      cancelled = call->cancelled;
      sent = call->sent_early;
    }
    if (cancelled) (*running)->Cancel();
    if (sent) (*running)->OnSent();
  }

  bool IsCancelled(const Call& call) {
    absl::MutexLock lock(&mutex_);
    return call.cancelled;
  }

  void CancelCall(uint64_t id) {
    std::shared_ptr<SessionBackend::Call> running;
    {
      absl::MutexLock lock(&mutex_);
      const auto place = calls_.find(id);
      if (place == calls_.end()) return;
      running = CancelLocked(place->second);
    }
    if (running != nullptr) running->Cancel();
  }

  void CancelAll() {
    std::vector<std::shared_ptr<SessionBackend::Call>> running;
    {
      absl::MutexLock lock(&mutex_);
      for (auto& [id, call] : calls_) running.push_back(CancelLocked(call));
    }
    for (const auto& call : running) {
      if (call != nullptr) call->Cancel();
    }
  }

  std::shared_ptr<SessionBackend::Call> CancelLocked(const std::shared_ptr<Call>& call)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    call->cancelled = true;
    call->pieces.clear();  // Nobody wants them, and the end need not wait for credit.
    if (call->ended) {
      SetStatus(*call, call->status);
      Queue(call);
    }
    return call->running;
  }

  void AddCredit(uint64_t id, int64_t bytes) {
    absl::MutexLock lock(&mutex_);
    const auto place = calls_.find(id);
    if (place == calls_.end()) return;
    Call& call = *place->second;
    call.credit = std::min(call.credit + bytes, kMaxCreditBytes);
    if (!call.pieces.empty()) Queue(place->second);
  }

  void Add(const std::shared_ptr<Call>& call, v1::WorkerGenerateResponse message) {
    const bool last = message.has_end();
    if (!last && message.ids().empty() && message.text().empty()) return;
    const size_t bytes = message.ByteSizeLong();
    {
      absl::MutexLock lock(&mutex_);
      if (call->cancelled || broken_) return;
      if (!call->pieces.empty() && call->pieces.back().bytes + bytes <= limits_.max_piece_bytes) {
        MergeResponse(std::move(message), call->pieces.back().message);
        call->pieces.back().bytes += bytes;
      } else {
        call->pieces.push_back({std::move(message), bytes});
      }
      if (last) return;  // It goes out with the status, which follows at once.
      Queue(call);
    }
    Advance();
  }

  void End(const std::shared_ptr<Call>& call, const absl::Status& status) {
    std::shared_ptr<SessionBackend::Call> unused;  // Its end may be the end of much else.
    {
      absl::MutexLock lock(&mutex_);
      call->ended = true;
      SetStatus(*call, status);
      unused = std::move(call->running);
      Queue(call);
    }
    Advance();
  }

  // An answer that was cut is not OK, even where the model had come to its end.
  static void SetStatus(Call& call, const absl::Status& status) {
    call.status =
        call.cancelled && status.ok() ? absl::CancelledError("the call was cancelled") : status;
  }

  // Puts the call where the next write finds it, if it has something that may be sent.
  void Queue(const std::shared_ptr<Call>& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const bool may_send = call->pieces.empty() ? call->ended : call->credit > 0;
    if (call->queued || !may_send) return;
    call->queued = true;
    queue_.push_back(call);
  }

  void Sent(Call& call) {
    std::shared_ptr<SessionBackend::Call> running;
    {
      absl::MutexLock lock(&mutex_);
      if (!call.pieces.empty()) return;
      running = call.running;
      if (running == nullptr) call.sent_early = true;
    }
    if (running != nullptr) running->OnSent();
  }

  // Fills response_ from the queue.
  void Collect() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    response_.Clear();
    size_t total = 0;
    while (!queue_.empty() && total < limits_.max_message_bytes) {
      const std::shared_ptr<Call> call = std::move(queue_.front());
      queue_.pop_front();
      call->queued = false;
      const bool has_piece = !call->pieces.empty();
      if (!has_piece && !call->ended) continue;  // cancelled meanwhile
      v1::WorkerSessionEvent& event = *response_.add_events();
      event.set_call_id(call->id);
      if (has_piece) {
        event.mutable_message()->Swap(&call->pieces.front().message);
        call->pieces.pop_front();
        const size_t bytes = event.message().ByteSizeLong();
        call->credit -= static_cast<int64_t>(bytes);
        total += bytes;
      }
      total += 16;  // the event around it, at most
      if (call->ended && call->pieces.empty()) {
        FillEnd(call->status, *event.mutable_end());
        total += event.end().message().size();
        calls_.erase(call->id);
        continue;
      }
      if (!call->ended) written_.push_back(call);
      Queue(call);
    }
  }

  static void FillEnd(const absl::Status& status, v1::WorkerSessionEnd& end) {
    if (status.ok()) return;
    const grpc::Status converted = ToGrpcStatus(status);
    end.set_code(converted.error_code());
    end.set_message(converted.error_message());
    end.set_retry_after_ms(absl::ToInt64Milliseconds(RetryAfter(status)));
  }

  // Starts the next operation, if one is due and none is under way.
  void Advance() {
    enum { kNothing, kWrite, kFinish } next = kNothing;
    absl::Status status;
    {
      absl::MutexLock lock(&mutex_);
      if (busy_ > 0 || writing_ || finished_) return;
      if (broken_ || !error_.ok()) {
        finished_ = true;
        status = error_;
        next = kFinish;
      } else {
        Collect();
        if (response_.events_size() > 0) {
          writing_ = true;
          next = kWrite;
        } else if (no_more_commands_ && calls_.empty()) {
          finished_ = true;
          next = kFinish;
        }
      }
    }
    // Only the thread that set writing_ or finished_ gets here with it.
    if (next == kWrite) StartWrite(&response_);
    if (next == kFinish) Finish(ToGrpcStatus(status));
  }

  SessionBackend* const backend_;
  BlockingPool* const pool_;
  const WorkerSessionLimits limits_;
  std::shared_ptr<Session> self_;  // gRPC's reference

  // Of the reader, which is one thread after the other.
  v1::WorkerSessionRequest request_;
  uint64_t last_id_ = 0;

  // Owned by the write under way; without one, guarded by the mutex.
  v1::WorkerSessionResponse response_;
  std::vector<std::shared_ptr<Call>> written_;  // whose pieces it holds

  absl::Mutex mutex_;
  // Those whose end has not been taken into a message.
  absl::flat_hash_map<uint64_t, std::shared_ptr<Call>> calls_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<Call>> queue_ ABSL_GUARDED_BY(mutex_);  // in order of their turns
  int busy_ ABSL_GUARDED_BY(mutex_) = 0;  // threads that will call Advance soon
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool read_held_back_ ABSL_GUARDED_BY(mutex_) = false;
  bool no_more_commands_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;  // the client is gone
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

grpc::ServerBidiReactor<v1::WorkerSessionRequest, v1::WorkerSessionResponse>* ServeSession(
    SessionBackend* backend, BlockingPool* pool, const WorkerSessionLimits& limits) {
  auto session = std::make_shared<Session>(backend, pool, limits);
  session->Start();
  return session.get();
}

}  // namespace octogate::workers
