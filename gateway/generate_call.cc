#include "gateway/generate_call.h"

#include <utility>

#include "absl/time/clock.h"
#include "common/grpc_status.h"
#include "gateway/cache/answer_replay.h"
#include "gateway/message_codec.h"
#include "gateway/request_validation.h"
#include "gateway/tenant.h"

namespace octogate::gateway {
namespace {

// Tokens are joined to messages no longer than this: clients limit what they accept.
constexpr size_t kMaxJoinedBytes = size_t{64} << 10;

void Join(v1::Tokens& tokens, v1::Tokens& next) {
  tokens.mutable_text()->append(next.text());
  tokens.mutable_ids()->MergeFrom(next.ids());
  for (v1::TokenLogprob& logprob : *next.mutable_logprobs()) {
    *tokens.add_logprobs() = std::move(logprob);
  }
}

}  // namespace

void GenerateCall::Accept(GatewayService* service, size_t loop) {
  auto* call = new GenerateCall(service, loop);
  auto* queue = static_cast<grpc::ServerCompletionQueue*>(service->loops_->queue(loop));
  call->context_.AsyncNotifyWhenDone(&call->call_ended_);
  service->grpc_service_.RequestGenerate(&call->context_, &call->request_bytes_, &call->writer_,
                                         queue, queue, &call->accepted_);
}

GenerateCall::GenerateCall(GatewayService* service, size_t loop)
    : service_(service), loop_(loop), hold_(service->loops_) {}

void GenerateCall::OnAccepted(bool ok) {
  if (!ok) {  // The server shuts down.
    delete this;
    return;
  }
  Accept(service_, loop_);
  deadline_ = DeadlineOf(context_);
  absl::Status status = ParseMessage(request_bytes_, &request_);
  request_bytes_.Clear();
  if (status.ok()) status = ValidateRequest(request_);
  if (!status.ok()) {
    OnDone(status, nullptr);
    return;
  }
  tenant_ = TenantOf(request_);
  request_.set_tenant(tenant_);
  accepted_at_ = absl::Now();
  LookUp();
}

void GenerateCall::LookUp() {
  graph_ = service_->graph_();
  std::shared_ptr<AnswerLookup> lookup =
      AnswerLookup::Make(graph_, request_, service_->environment_.drained->names(), deadline_,
                         service_->environment_.metrics,
                         [this](AnswerLookup::Result result) { OnLookedUp(std::move(result)); });
  if (lookup == nullptr) {
    graph_ = nullptr;
    Admit();
    return;
  }
  // It may wait for another query, as long as the client and the deadline allow.
  service_->Register(this);
  bool gone = false;
  {
    absl::MutexLock lock(&mutex_);
    lookup_ = lookup;
    gone = broken_;
  }
  if (gone) lookup->Stop(absl::CancelledError("the client has cancelled the query"));
  // The call may be gone when this returns.
  lookup->Start();
}

void GenerateCall::OnLookedUp(AnswerLookup::Result result) {
  {
    absl::MutexLock lock(&mutex_);
    lookup_ = nullptr;
  }
  if (!result.status.ok()) {
    OnDone(result.status, nullptr);
  } else if (result.answer != nullptr) {
    ReplayAnswer(service_->environment_, *graph_, request_, *result.answer, result.similarity,
                 accepted_at_, this);
  } else {
    answer_ = std::move(result.recorder);
    if (result.at_once) {
      Admit();
    } else {  // Not here: as in OnTurnDecided.
      looked_up_alarm_.Set(service_->loops_->queue(loop_), AtOnce(), &looked_up_);
    }
  }
}

void GenerateCall::OnLookedUpLater(bool) { Admit(); }

void GenerateCall::Admit() {
  const std::optional<absl::Status> admitted = service_->admission_->Admit(
      tenant_, deadline_, [this](const absl::Status& decision) { OnTurnDecided(decision); });
  if (!admitted.has_value()) return;
  if (admitted->ok()) {
    StartQuery();
  } else {
    answer_ = nullptr;
    OnDone(*admitted, nullptr);
  }
}

void GenerateCall::OnTurnDecided(const absl::Status& decision) {
  if (!decision.ok()) {
    answer_ = nullptr;  // Another query leads.
    OnDone(decision, nullptr);
    return;
  }
  // Not here: this is the end of another query, whose turn might have come at the end of yet
  // another one.
  turn_.Set(service_->loops_->queue(loop_), AtOnce(), &turn_came_);
}

void GenerateCall::OnTurn(bool) { StartQuery(); }

void GenerateCall::StartQuery() {
  admitted_at_ = absl::Now();
  const std::shared_ptr<const GraphState> graph = service_->graph_();
  if (graph == nullptr) {
    OnDone(absl::UnavailableError("no graph has been applied yet; apply one with octoctl apply -f"),
           nullptr);
    return;
  }
  // The answer of another version is not kept for this one. Who waits runs at once: each would find
  // the same as the next to lead.
  if (graph != graph_ && answer_ != nullptr) {
    answer_->Release();
    answer_ = nullptr;
  }
  graph_ = nullptr;
  auto query = std::make_shared<Query>(service_->environment_, graph, std::move(request_),
                                       deadline_, this, std::move(answer_));
  {
    absl::MutexLock lock(&mutex_);
    query_ = query;
    if (broken_) query->Cancel();
  }
  service_->Register(this);
  query->Start();
}

void GenerateCall::OnTick(absl::Time now) {
  std::shared_ptr<Query> query;
  std::shared_ptr<AnswerLookup> lookup;
  {
    absl::MutexLock lock(&mutex_);
    query = query_;
    lookup = lookup_;
  }
  if (lookup != nullptr && now >= lookup->deadline()) {
    lookup->Stop(absl::DeadlineExceededError("the deadline passed while the query was looked up"));
    return;
  }
  if (query == nullptr || now < query->deadline() + kExpireAfter) return;
  query->Expire();
  // A client that does not read cannot be told.
  if (now >= query->deadline() + kAbandonAfter) context_.TryCancel();
}

Flow GenerateCall::OnEvent(v1::GenerateResponse& event) {
  absl::MutexLock lock(&mutex_);
  if (broken_) return Flow::kContinue;
  if (event.has_tokens()) {
    AddPending(event);
    if (!writing_) WriteTokens();
    paused_ = pending_bytes_ > kMaxPendingBytes;
    return paused_ ? Flow::kPause : Flow::kContinue;
  }
  if (!writing_ && pending_.empty()) {
    writing_ = true;
    writer_.Write(SerializeMessage(event), &written_);
    return Flow::kContinue;
  }
  AddPending(event);
  if (pending_bytes_ <= kMaxPendingBytes) return Flow::kContinue;
  paused_ = true;
  return Flow::kPause;
}

void GenerateCall::AddPending(v1::GenerateResponse& event) {
  const size_t bytes = event.ByteSizeLong();
  pending_bytes_ += bytes;
  if (!pending_.empty() && event.has_tokens()) {
    v1::GenerateResponse& last = pending_.back().event;
    if (last.has_tokens() && last.tokens().node() == event.tokens().node() &&
        pending_.back().bytes + bytes <= kMaxJoinedBytes) {
      Join(*last.mutable_tokens(), *event.mutable_tokens());
      pending_.back().bytes += bytes;
      return;
    }
  }
  pending_.push_back({std::move(event), bytes});
}

void GenerateCall::OnDone(const absl::Status& status, v1::GenerateResponse* finished) {
  if (admitted_at_ != absl::InfiniteFuture()) {
    service_->admission_->Release(tenant_, absl::Now() - admitted_at_);
  }
  AddRetryHint(status, &context_);
  // The loop may see the status written, and drop the call, while this thread still has the lock.
  Keep();
  {
    absl::MutexLock lock(&mutex_);
    done_ = true;
    status_ = status;
    if (finished != nullptr) pending_.push_back({std::move(*finished), 0});
    Write();
  }
  Drop();
}

void GenerateCall::Write() {
  if (writing_ || closing_) return;
  if (broken_) pending_.clear();
  if (pending_.empty()) {
    if (!done_) return;
    closing_ = true;
    writer_.Finish(ToGrpcStatus(status_), &status_written_);
    return;
  }
  const Pending next = std::move(pending_.front());
  pending_.pop_front();
  pending_bytes_ -= next.bytes;
  const grpc::ByteBuffer bytes = SerializeMessage(next.event);
  if (done_ && pending_.empty()) {
    closing_ = true;
    writer_.WriteAndFinish(bytes, grpc::WriteOptions(), ToGrpcStatus(status_), &status_written_);
  } else {
    writing_ = true;
    writer_.Write(bytes, &written_);
  }
}

void GenerateCall::WriteTokens() {
  if (std::exchange(streaming_, true)) {
    WriteSoon();
  } else {
    Write();
  }
}

void GenerateCall::WriteSoon() {
  if (flush_deferred_) return;
  flush_deferred_ = service_->loops_->Defer(flush_);
  if (flush_deferred_) {
    Keep();
  } else {
    Write();
  }
}

void GenerateCall::OnFlush(bool) {
  {
    absl::MutexLock lock(&mutex_);
    flush_deferred_ = false;
    Write();
  }
  Drop();
}

void GenerateCall::OnWritten(bool ok) {
  std::shared_ptr<Query> resumed;
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) broken_ = true;
    if (ok && !done_ && !pending_.empty() && pending_.front().event.has_tokens()) {
      WriteTokens();
    } else {
      Write();
    }
    if (paused_ && pending_bytes_ <= kMaxPendingBytes / 2) {
      paused_ = false;
      resumed = query_;
    }
  }
  if (resumed != nullptr) resumed->Resume();
}

void GenerateCall::OnCallEnded(bool) {
  std::shared_ptr<Query> query;
  std::shared_ptr<AnswerLookup> lookup;
  {
    absl::MutexLock lock(&mutex_);
    if (context_.IsCancelled()) {
      broken_ = true;
      query = query_;
      lookup = lookup_;
    }
  }
  if (lookup != nullptr) lookup->Stop(absl::CancelledError("the client has cancelled the query"));
  if (query != nullptr) query->Cancel();
  Drop();
}

void GenerateCall::OnStatusWritten(bool) {
  service_->Unregister(this);
  Drop();
}

void GenerateCall::Drop() {
  if (users_.fetch_sub(1) == 1) delete this;
}

}  // namespace octogate::gateway
