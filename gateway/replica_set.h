// The replicas of one model: chooses one for each call, retries on another what failed before its
// first token, and keeps away from replicas that fail until a probe succeeds.
#ifndef OCTOGATE_GATEWAY_REPLICA_SET_H_
#define OCTOGATE_GATEWAY_REPLICA_SET_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gateway/circuit_breaker.h"
#include "gateway/model_client.h"
#include "octogate/v1/admin.pb.h"

namespace octogate::gateway {

struct ReplicaSetOptions {
  CircuitBreakerOptions breaker;
  // Replicas that one call may be given to, one after the other.
  int max_attempts = 3;
  // Retries are at most this share of the calls, plus `retry_burst`: a set that is down as a whole
  // is not asked several times as often as a healthy one.
  double retry_ratio = 0.1;
  double retry_burst = 10;
  // How often each replica is asked for its Info, and how long it may take to answer.
  absl::Duration probe_interval = absl::Seconds(5);
  absl::Duration probe_timeout = absl::Seconds(2);
  std::function<absl::Time()> clock = [] { return absl::Now(); };
};

// Thread safety: all methods may be called from any thread. Held by shared pointer; calls under way
// keep it alive.
class ReplicaSet : public std::enable_shared_from_this<ReplicaSet> {
 public:
  // `model` is the name in messages. At least one client.
  static std::shared_ptr<ReplicaSet> Create(std::string model,
                                            std::vector<std::unique_ptr<ModelClient>> clients,
                                            const ReplicaSetOptions& options = {});

  // Tells which replica an attempt is given to, before anything of it is delivered.
  using AttemptCallback = std::function<void(const std::string& address)>;

  // As ModelClient::Generate, on the replica with the fewest calls under way. A failure that
  // another replica may not have (UNAVAILABLE, RESOURCE_EXHAUSTED, ABORTED) is retried as long as
  // nothing has been delivered. UNAVAILABLE with a hint to retry where no replica can take it.
  std::shared_ptr<ModelCall> Generate(std::shared_ptr<const v1::WorkerGenerateRequest> request,
                                      absl::Time deadline, AttemptCallback on_attempt,
                                      ModelClient::MessageCallback on_message,
                                      ModelClient::DoneCallback on_done);

  // As ModelClient::Score and Embed, with the same choice and retries.
  std::shared_ptr<ModelCall> Score(std::shared_ptr<const v1::WorkerScoreRequest> request,
                                   absl::Time deadline,
                                   ModelClient::ResponseCallback<v1::WorkerScoreResponse> on_done);
  std::shared_ptr<ModelCall> Embed(std::shared_ptr<const v1::WorkerEmbedRequest> request,
                                   absl::Time deadline,
                                   ModelClient::ResponseCallback<v1::WorkerEmbedResponse> on_done);

  // Starts the probes that are due. To be called every 100 ms or so.
  void Tick();

  // In the order given to Create.
  std::vector<v1::ReplicaStatus> Status() const;
  // Replicas that can take a call now.
  int ready() const;
  int size() const { return static_cast<int>(replicas_.size()); }
  // Whether every replica has been asked and at least one failed to answer.
  bool has_failed() const;
  // Why none is ready: the last failure.
  std::string LastError() const;
  // What a replica last said of itself; nothing while none has.
  std::optional<v1::WorkerInfoResponse> Info() const;
  const std::string& model() const { return model_; }

 private:
  friend class ReplicaCall;
  struct Replica;

  ReplicaSet(std::string model, std::vector<std::unique_ptr<ModelClient>> clients,
             const ReplicaSetOptions& options);

  // Counts a call. The replica with the fewest under way among those that may be called and are
  // not in `tried` (a bit per index); null if there is none. Pairs with Release.
  Replica* Acquire(uint64_t tried, bool is_retry);
  void Release(Replica* replica, const absl::Status& status);
  absl::Status NoReplica() const;
  void OnInfo(Replica* replica, bool is_probe, absl::StatusOr<v1::WorkerInfoResponse> info);

  const std::string model_;
  const ReplicaSetOptions options_;
  const std::vector<std::unique_ptr<Replica>> replicas_;
  mutable absl::Mutex mutex_;  // also guards what changes in a Replica
  double retry_budget_ ABSL_GUARDED_BY(mutex_);
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_REPLICA_SET_H_
