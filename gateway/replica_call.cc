// The calls of ReplicaSet: each through its attempts.
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "gateway/replica_set.h"
#include "gateway/replica_set_internal.h"

namespace octogate::gateway {

using workers::PromptBlocks;

// One call through its attempts.
class ReplicaCall : public ModelCall, public std::enable_shared_from_this<ReplicaCall> {
 public:
  ReplicaCall(std::shared_ptr<ReplicaSet> set, absl::Time deadline)
      : deadline_(deadline), set_(std::move(set)) {}

  void Attempt() {
    if (!hashed_ && set_->ChoosesByPrefix(tried_)) {
      prompt_ = HashPrompt();
      hashed_ = true;
    }
    grant_ = set_->Acquire(tried_, attempts_ > 0, prompt_);
    ReplicaSet::Replica* const replica = grant_.replica;
    if (replica == nullptr) {
      Done(last_.ok() ? set_->NoReplica() : last_);
      return;
    }
    tried_ |= uint64_t{1} << replica->index;
    const int number = ++attempts_;
    std::shared_ptr<ModelCall> attempt = Start(
        *replica->client,
        [self = shared_from_this()](const absl::Status& status) { self->OnAttemptDone(status); });
    bool cancelled = false;
    bool resumed = false;
    {
      absl::MutexLock lock(&mutex_);
      // An attempt that is over already may have been followed by others.
      if (done_ || number < current_number_) return;
      current_ = attempt;
      current_number_ = number;
      cancelled = cancelled_;
      resumed = resumed_;
    }
    // What came while there was nobody to be told.
    if (cancelled) attempt->Cancel();
    if (resumed) attempt->Resume();
  }

  void Cancel() override {
    std::shared_ptr<ModelCall> current;
    {
      absl::MutexLock lock(&mutex_);
      cancelled_ = true;
      current = current_;
    }
    if (current != nullptr) current->Cancel();
  }

  void Resume() override {
    std::shared_ptr<ModelCall> current;
    {
      absl::MutexLock lock(&mutex_);
      resumed_ = true;
      current = current_;
    }
    if (current != nullptr) current->Resume();
  }

 protected:
  // Starts an attempt. The call may be over before this returns.
  virtual std::shared_ptr<ModelCall> Start(ModelClient& client,
                                           ModelClient::DoneCallback on_done) = 0;
  // The call is over. Once; lets go of the callbacks, which may hold what holds this call.
  virtual void OnOver(const absl::Status& status) = 0;

  // What the choice of a replica goes by.
  virtual PromptBlocks HashPrompt() const { return {}; }

  // Something has been delivered: from now on a failure is final.
  void MarkDelivered() {
    if (delivered_) return;
    delivered_ = true;
    set_->OnRead(grant_);
  }

  const absl::Time deadline_;

 private:
  void OnAttemptDone(const absl::Status& status) {
    set_->Release(grant_, prompt_, status);
    bool cancelled = false;
    {
      absl::MutexLock lock(&mutex_);
      cancelled = cancelled_;
    }
    if (!status.ok() && !delivered_ && !cancelled && IsRetryable(status) &&
        attempts_ < set_->options_.max_attempts && set_->options_.clock() < deadline_) {
      last_ = status;
      Attempt();
      return;
    }
    Done(status);
  }

  void Done(const absl::Status& status) {
    {
      absl::MutexLock lock(&mutex_);
      done_ = true;
      current_ = nullptr;
    }
    OnOver(status);
  }

  const std::shared_ptr<ReplicaSet> set_;
  // Touched by one attempt after the other.
  uint64_t tried_ = 0;
  int attempts_ = 0;
  ReplicaSet::Grant grant_;
  bool hashed_ = false;
  PromptBlocks prompt_;
  bool delivered_ = false;
  absl::Status last_;

  absl::Mutex mutex_;
  std::shared_ptr<ModelCall> current_ ABSL_GUARDED_BY(mutex_);
  int current_number_ ABSL_GUARDED_BY(mutex_) = 0;  // which attempt it is, from 1
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool resumed_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

namespace {

class GenerateReplicaCall final : public ReplicaCall {
 public:
  GenerateReplicaCall(std::shared_ptr<ReplicaSet> set,
                      std::shared_ptr<const v1::WorkerGenerateRequest> request, absl::Time deadline,
                      ReplicaSet::AttemptCallback on_attempt,
                      ModelClient::MessageCallback on_message, ModelClient::DoneCallback on_done)
      : ReplicaCall(std::move(set), deadline),
        request_(std::move(request)),
        on_attempt_(std::move(on_attempt)),
        on_message_(std::move(on_message)),
        on_done_(std::move(on_done)) {}

 private:
  std::shared_ptr<ModelCall> Start(ModelClient& client,
                                   ModelClient::DoneCallback on_done) override {
    if (on_attempt_ != nullptr) on_attempt_(client.address());
    // The attempt's end holds this call, and comes after the last message.
    return client.Generate(
        *request_, deadline_,
        [this](v1::WorkerGenerateResponse& message) {
          MarkDelivered();
          return on_message_(message);
        },
        std::move(on_done));
  }

  PromptBlocks HashPrompt() const override {
    return workers::HashPrompt(request_->prompt(), request_->terms().cache_salt());
  }

  void OnOver(const absl::Status& status) override {
    const ReplicaSet::AttemptCallback on_attempt = std::exchange(on_attempt_, nullptr);
    const ModelClient::MessageCallback on_message = std::exchange(on_message_, nullptr);
    std::exchange(on_done_, nullptr)(status);
  }

  const std::shared_ptr<const v1::WorkerGenerateRequest> request_;
  ReplicaSet::AttemptCallback on_attempt_;
  ModelClient::MessageCallback on_message_;
  ModelClient::DoneCallback on_done_;
};

// A call with one answer, which is kept until the last attempt is known to be the last. `Method` is
// that of ModelClient.
template <typename Request, typename Response, auto Method>
class UnaryReplicaCall final : public ReplicaCall {
 public:
  UnaryReplicaCall(std::shared_ptr<ReplicaSet> set, std::shared_ptr<const Request> request,
                   absl::Time deadline, ModelClient::ResponseCallback<Response> on_done)
      : ReplicaCall(std::move(set), deadline),
        request_(std::move(request)),
        on_done_(std::move(on_done)) {}

 private:
  std::shared_ptr<ModelCall> Start(ModelClient& client,
                                   ModelClient::DoneCallback on_done) override {
    // The attempt's end holds this call.
    return (client.*Method)(*request_, deadline_,
                            [this, done = std::move(on_done)](absl::StatusOr<Response> response) {
                              if (response.ok()) response_ = *std::move(response);
                              done(response.status());
                            });
  }

  PromptBlocks HashPrompt() const override {
    if constexpr (std::is_same_v<Request, v1::WorkerScoreRequest>) {
      return workers::HashPrompt(request_->prompt(), request_->terms().cache_salt());
    }
    return {};
  }

  void OnOver(const absl::Status& status) override {
    const auto on_done = std::exchange(on_done_, nullptr);
    if (status.ok()) {
      on_done(std::move(response_));
    } else {
      on_done(status);
    }
  }

  const std::shared_ptr<const Request> request_;
  ModelClient::ResponseCallback<Response> on_done_;
  Response response_;
};

}  // namespace

std::shared_ptr<ModelCall> ReplicaSet::Generate(
    std::shared_ptr<const v1::WorkerGenerateRequest> request, absl::Time deadline,
    AttemptCallback on_attempt, ModelClient::MessageCallback on_message,
    ModelClient::DoneCallback on_done) {
  auto call = std::make_shared<GenerateReplicaCall>(shared_from_this(), std::move(request),
                                                    deadline, std::move(on_attempt),
                                                    std::move(on_message), std::move(on_done));
  call->Attempt();
  return call;
}

std::shared_ptr<ModelCall> ReplicaSet::Score(
    std::shared_ptr<const v1::WorkerScoreRequest> request, absl::Time deadline,
    ModelClient::ResponseCallback<v1::WorkerScoreResponse> on_done) {
  using Call =
      UnaryReplicaCall<v1::WorkerScoreRequest, v1::WorkerScoreResponse, &ModelClient::Score>;
  auto call =
      std::make_shared<Call>(shared_from_this(), std::move(request), deadline, std::move(on_done));
  call->Attempt();
  return call;
}

std::shared_ptr<ModelCall> ReplicaSet::Embed(
    std::shared_ptr<const v1::WorkerEmbedRequest> request, absl::Time deadline,
    ModelClient::ResponseCallback<v1::WorkerEmbedResponse> on_done) {
  using Call =
      UnaryReplicaCall<v1::WorkerEmbedRequest, v1::WorkerEmbedResponse, &ModelClient::Embed>;
  auto call =
      std::make_shared<Call>(shared_from_this(), std::move(request), deadline, std::move(on_done));
  call->Attempt();
  return call;
}

}  // namespace octogate::gateway
