#include "gateway/replica_set.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace octogate::gateway {
namespace {

// Of one set; the indices of the replicas tried are bits of a word.
constexpr size_t kMaxReplicas = 64;

// Whether another replica may succeed where this one did not.
bool IsRetryable(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsResourceExhausted(status) ||
         absl::IsAborted(status);
}

// Whether a failure says that something is wrong with the replica, not with the call.
bool IsReplicaFailure(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsInternal(status) || absl::IsUnknown(status) ||
         absl::IsDataLoss(status) || absl::IsUnimplemented(status);
}

}  // namespace

struct ReplicaSet::Replica {
  Replica(size_t index, std::unique_ptr<ModelClient> client, const CircuitBreakerOptions& breaker)
      : index(index), client(std::move(client)), breaker(breaker, std::random_device()()) {}

  const size_t index;
  const std::unique_ptr<ModelClient> client;
  // The rest is guarded by the set's mutex.
  CircuitBreaker breaker;
  int in_flight = 0;
  bool draining = false;
  bool asked = false;  // an Info is under way
  absl::Time ask_at = absl::InfinitePast();
  std::string last_error;
  std::optional<v1::WorkerInfoResponse> info;
};

// One call through its attempts.
class ReplicaCall : public ModelCall, public std::enable_shared_from_this<ReplicaCall> {
 public:
  ReplicaCall(std::shared_ptr<ReplicaSet> set, absl::Time deadline)
      : deadline_(deadline), set_(std::move(set)) {}

  void Attempt() {
    ReplicaSet::Replica* const replica = set_->Acquire(tried_, attempts_ > 0);
    if (replica == nullptr) {
      Done(last_.ok() ? set_->NoReplica() : last_);
      return;
    }
    tried_ |= uint64_t{1} << replica->index;
    const int number = ++attempts_;
    std::shared_ptr<ModelCall> attempt =
        Start(*replica->client, [self = shared_from_this(), replica](const absl::Status& status) {
          self->OnAttemptDone(replica, status);
        });
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

  // Something has been delivered: from now on a failure is final.
  void MarkDelivered() { delivered_ = true; }

  const absl::Time deadline_;

 private:
  void OnAttemptDone(ReplicaSet::Replica* replica, const absl::Status& status) {
    set_->Release(replica, status);
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

std::shared_ptr<ReplicaSet> ReplicaSet::Create(std::string model,
                                               std::vector<std::unique_ptr<ModelClient>> clients,
                                               const ReplicaSetOptions& options) {
  return std::shared_ptr<ReplicaSet>(new ReplicaSet(std::move(model), std::move(clients), options));
}

ReplicaSet::ReplicaSet(std::string model, std::vector<std::unique_ptr<ModelClient>> clients,
                       const ReplicaSetOptions& options)
    : model_(std::move(model)),
      options_(options),
      replicas_([&] {
        std::vector<std::unique_ptr<Replica>> replicas;
        for (size_t i = 0; i < std::min(clients.size(), kMaxReplicas); ++i) {
          replicas.push_back(std::make_unique<Replica>(i, std::move(clients[i]), options.breaker));
        }
        return replicas;
      }()),
      retry_budget_(options.retry_burst) {}

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

ReplicaSet::Replica* ReplicaSet::Acquire(uint64_t tried, bool is_retry) {
  absl::MutexLock lock(&mutex_);
  if (is_retry) {
    if (retry_budget_ < 1) return nullptr;
  } else {
    retry_budget_ = std::min(retry_budget_ + options_.retry_ratio, options_.retry_burst);
  }
  Replica* best = nullptr;
  const size_t start = next_++;
  for (size_t i = 0; i < replicas_.size(); ++i) {
    Replica* const replica = replicas_[(start + i) % replicas_.size()].get();
    if ((tried >> replica->index & 1) != 0 || !replica->breaker.allows_calls() ||
        replica->draining) {
      continue;
    }
    if (best == nullptr || replica->in_flight < best->in_flight) best = replica;
  }
  if (best == nullptr) return nullptr;
  if (is_retry) retry_budget_ -= 1;
  ++best->in_flight;
  return best;
}

void ReplicaSet::Release(Replica* replica, const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  --replica->in_flight;
  if (IsReplicaFailure(status)) {
    replica->last_error = std::string(status.message());
    replica->breaker.OnFailure(options_.clock(), /*is_probe=*/false);
    // Asked at the next tick instead of at the end of the interval, so that a replica that has
    // died is known to have without many calls failing on it.
    replica->ask_at = absl::InfinitePast();
  } else if (!absl::IsDeadlineExceeded(status) && !absl::IsCancelled(status)) {
    // Those two say nothing about the replica.
    replica->breaker.OnSuccess(/*is_probe=*/false);
  }
}

absl::Status ReplicaSet::NoReplica() const {
  return WithRetryAfter(absl::UnavailableError(absl::StrCat(
                            "none of the ", replicas_.size(), " replicas of model \"", model_,
                            "\" can take a query; the last failure: ", LastError())),
                        options_.breaker.initial_pause);
}

void ReplicaSet::Tick() {
  const absl::Time now = options_.clock();
  struct Probe {
    Replica* replica;
    bool is_probe;
  };
  std::vector<Probe> probes;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& replica : replicas_) {
      if (replica->asked) continue;
      const bool is_probe = replica->breaker.TakeProbe(now);
      if (!is_probe && (!replica->breaker.allows_calls() || now < replica->ask_at)) continue;
      replica->asked = true;
      replica->ask_at = now + options_.probe_interval;
      probes.push_back({replica.get(), is_probe});
    }
  }
  for (const Probe& probe : probes) {
    probe.replica->client->Info(
        now + options_.probe_timeout,
        [self = shared_from_this(), probe](absl::StatusOr<v1::WorkerInfoResponse> info) {
          self->OnInfo(probe.replica, probe.is_probe, std::move(info));
        });
  }
}

void ReplicaSet::OnInfo(Replica* replica, bool is_probe,
                        absl::StatusOr<v1::WorkerInfoResponse> info) {
  absl::MutexLock lock(&mutex_);
  replica->asked = false;
  if (info.ok()) {
    replica->breaker.OnSuccess(is_probe);
    replica->draining = info->draining();
    replica->info = *std::move(info);
    replica->last_error = replica->draining ? "draining" : "";
  } else {
    replica->last_error = std::string(info.status().message());
    replica->breaker.OnFailure(options_.clock(), is_probe);
    // Until the breaker opens, the next failure is found out soon.
    replica->ask_at = absl::InfinitePast();
  }
}

std::vector<v1::ReplicaStatus> ReplicaSet::Status() const {
  absl::MutexLock lock(&mutex_);
  std::vector<v1::ReplicaStatus> result;
  for (const auto& replica : replicas_) {
    v1::ReplicaStatus& status = result.emplace_back();
    status.set_address(replica->client->address());
    status.set_breaker(std::string(CircuitBreakerStateName(replica->breaker.state())));
    status.set_in_flight(replica->in_flight);
    status.set_last_error(replica->last_error);
    if (replica->info.has_value()) *status.mutable_info() = *replica->info;
  }
  return result;
}

int ReplicaSet::ready() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(std::count_if(replicas_.begin(), replicas_.end(), [](const auto& r) {
    return r->breaker.allows_calls() && !r->draining && r->info.has_value();
  }));
}

bool ReplicaSet::has_failed() const {
  absl::MutexLock lock(&mutex_);
  return std::all_of(replicas_.begin(), replicas_.end(), [](const auto& r) { return !r->asked; }) &&
         std::any_of(replicas_.begin(), replicas_.end(),
                     [](const auto& r) { return !r->last_error.empty(); });
}

std::string ReplicaSet::LastError() const {
  absl::MutexLock lock(&mutex_);
  for (const auto& replica : replicas_) {
    if (!replica->last_error.empty()) return replica->last_error;
  }
  return "none yet";
}

std::optional<v1::WorkerInfoResponse> ReplicaSet::Info() const {
  absl::MutexLock lock(&mutex_);
  for (const auto& replica : replicas_) {
    if (replica->info.has_value()) return replica->info;
  }
  return std::nullopt;
}

}  // namespace octogate::gateway
