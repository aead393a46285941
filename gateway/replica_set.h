// The replicas of one model: chooses one for each call, retries on another what failed before its
// first token, and keeps away from replicas that fail until a probe succeeds.
#ifndef OCTOGATE_GATEWAY_REPLICA_SET_H_
#define OCTOGATE_GATEWAY_REPLICA_SET_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "gateway/circuit_breaker.h"
#include "gateway/model_client.h"
#include "gateway/replica_choice.h"
#include "octogate/v1/admin.pb.h"
#include "workers/server/prompt_blocks.h"

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
  ReplicaChoiceOptions choice;
  // Of the draws among replicas. Default: another one for each set.
  std::optional<uint64_t> seed;
  Clock clock = SteadyNow;
};

// What would become of a prompt on one replica, and why.
struct ReplicaExplanation {
  std::string address;
  // Of the prompt's beginning, bytes of text that it holds; of as many in all.
  int64_t prefix_bytes = 0;
  int64_t prompt_bytes = 0;
  // Calls there, those of other gateways included, as far as known.
  double load = 0;
  // Of all such prompts now, the share that it would get.
  double probability = 0;
  // Whether no other gets a larger one.
  bool chosen = false;
  // One sentence for people.
  std::string reason;
};

// Attempts that were given to a replica, by ReplicaChoiceReason.
using ReplicaChoiceCounts = std::array<int64_t, kReplicaChoiceReasons>;

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

  // As ModelClient::Generate, on the replica that replica_choice.h chooses by what replicas say of
  // their prefixes and load; where none of them says what it holds, on the one with the fewest
  // calls of this gateway under way. A failure that another replica may not have (UNAVAILABLE,
  // RESOURCE_EXHAUSTED, ABORTED) is retried as long as nothing has been delivered. UNAVAILABLE with
  // a hint to retry where no replica can take it.
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

  // Has all replicas forget pages at the same time, those that take no calls included, and says
  // what became of it at each, in the order given to Create. Waits for them until `deadline`: one
  // that has said nothing by then may do it later.
  std::vector<v1::ReplicaFlush> FlushCache(const v1::WorkerFlushCacheRequest& request,
                                           absl::Time deadline);

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
  // How the next attempt for this prompt would be given to a replica, in the order given to Create,
  // by what is known here. Asks none.
  std::vector<ReplicaExplanation> Explain(const v1::WorkerPrompt& prompt,
                                          std::string_view cache_salt) const;
  // What each says that it has of a prompt, in the order given to Create. Waits for them until
  // `deadline`.
  std::vector<absl::StatusOr<v1::WorkerExplainCacheResponse>> ExplainCache(
      const v1::WorkerExplainCacheRequest& request, absl::Time deadline) const;
  // In the order given to Create.
  std::vector<ReplicaChoiceCounts> choice_counts() const;
  // What a replica last said of itself, prefixes left out; nothing while none has.
  std::optional<v1::WorkerInfoResponse> Info() const;
  const std::string& model() const { return model_; }

 private:
  friend class ReplicaCall;
  struct Replica;

  ReplicaSet(std::string model, std::vector<std::unique_ptr<ModelClient>> clients,
             const ReplicaSetOptions& options);

  // A call that was given to a replica.
  struct Grant {
    Replica* replica = nullptr;
    // Of its prompt, what the replica has to read.
    int64_t unread_bytes = 0;
  };

  // Whether several replicas may be called and one of them says what it holds, so that a prompt's
  // blocks are of use.
  bool ChoosesByPrefix(uint64_t tried) const;
  // Counts a call. Chooses among replicas that may be called and are not in `tried` (a bit per
  // index); no replica if there is none. `prompt` is empty for a call without one. Pairs with
  // Release.
  Grant Acquire(uint64_t tried, bool is_retry, const workers::PromptBlocks& prompt);
  // The replica has read the prompt.
  void OnRead(Grant& grant);
  void Release(Grant& grant, const workers::PromptBlocks& prompt, const absl::Status& status);
  bool MayTakeCalls(const Replica& replica, uint64_t tried) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Those that may be called, and what is known of them.
  struct Candidates;
  Candidates FindCandidates(uint64_t tried, const workers::PromptBlocks& prompt) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes into choice_ what a call costs by what replicas have measured: the median, as they are
  // meant to be equal, and one of them may lie or have been disturbed.
  void MeasureCalls() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status NoReplica() const;
  // `asked` is what this gateway had there when it asked.
  void OnInfo(Replica* replica, bool is_probe, const ReportedLoad& asked,
              absl::StatusOr<v1::WorkerInfoResponse> info);

  const std::string model_;
  const ReplicaSetOptions options_;
  const std::vector<std::unique_ptr<Replica>> replicas_;
  mutable absl::Mutex mutex_;  // also guards what changes in a Replica
  double retry_budget_ ABSL_GUARDED_BY(mutex_);
  ReplicaChoiceOptions choice_ ABSL_GUARDED_BY(mutex_);
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_REPLICA_SET_H_
