#include "gateway/replica_set.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <type_traits>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "gateway/replica_prefixes.h"

namespace octogate::gateway {
namespace {

// Of one set; the indices of the replicas tried are bits of a word.
constexpr size_t kMaxReplicas = 64;
// Of text, in one token of what waits to be read.
constexpr double kBytesPerToken = 4;
// A replica that computes this share of the answers that it can compute at a time has room for
// more, whatever the others do; within these bounds, since it is a peer that says it.
constexpr double kShareWithRoom = 0.25;
constexpr double kLeastRoom = 2;
constexpr double kMostRoom = 16;

using workers::PromptBlocks;

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
  ReplicaPrefixes prefixes;
  std::string prefix_refusal;  // what is wrong with its last summary
  int64_t unread_bytes = 0;    // of calls under way that have not been answered yet
  ReportedLoad reported_load;  // its age excepted
  absl::Time reported_at;
  ReplicaChoiceCounts choice_counts{};
};

struct ReplicaSet::Candidates {
  absl::InlinedVector<Replica*, 16> replicas;
  // Where any of them says what it holds.
  bool by_prefix = false;
  absl::InlinedVector<ReplicaView, 16> views;

  std::span<const ReplicaView> view_span() const { return {views.data(), views.size()}; }
};

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
      retry_budget_(options.retry_burst),
      random_(
          options.seed.value_or(uint64_t{std::random_device()()} << 32 | std::random_device()())) {}

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

bool ReplicaSet::MayTakeCalls(const Replica& replica, uint64_t tried) const {
  return (tried >> replica.index & 1) == 0 && replica.breaker.allows_calls() && !replica.draining;
}

bool ReplicaSet::ChoosesByPrefix(uint64_t tried) const {
  if (replicas_.size() < 2) return false;
  absl::MutexLock lock(&mutex_);
  int callable = 0;
  bool known = false;
  for (const auto& replica : replicas_) {
    if (!MayTakeCalls(*replica, tried)) continue;
    ++callable;
    known |= replica->prefixes.known();
  }
  return callable > 1 && known;
}

ReplicaSet::Candidates ReplicaSet::FindCandidates(uint64_t tried,
                                                  const PromptBlocks& prompt) const {
  Candidates result;
  for (const auto& replica : replicas_) {
    if (!MayTakeCalls(*replica, tried)) continue;
    result.replicas.push_back(replica.get());
    result.by_prefix |= replica->prefixes.known();
  }
  if (!result.by_prefix || result.replicas.size() < 2) return result;
  const absl::Time now = options_.clock();
  absl::InlinedVector<ObservedReplica, 16> observed;
  for (const Replica* replica : result.replicas) {
    ObservedReplica& one = observed.emplace_back();
    one.own_calls = replica->in_flight;
    one.own_unread_bytes = static_cast<double>(replica->unread_bytes);
    one.has_report = replica->info.has_value();
    one.report = replica->reported_load;
    one.report.age_seconds = absl::ToDoubleSeconds(now - replica->reported_at);
    ReplicaView& view = result.views.emplace_back();
    view.matched_bytes =
        static_cast<int64_t>(replica->prefixes.Matched(prompt.hashes) * PromptBlocks::kBlockBytes);
    const int sequences = replica->info.has_value() ? replica->info->max_sequences() : 0;
    view.room = std::clamp(kShareWithRoom * sequences, kLeastRoom, kMostRoom);
  }
  EstimateLoads({observed.data(), observed.size()}, {result.views.data(), result.views.size()});
  return result;
}

ReplicaSet::Grant ReplicaSet::Acquire(uint64_t tried, bool is_retry, const PromptBlocks& prompt) {
  absl::MutexLock lock(&mutex_);
  if (is_retry) {
    if (retry_budget_ < 1) return {};
  } else {
    retry_budget_ = std::min(retry_budget_ + options_.retry_ratio, options_.retry_burst);
  }
  const Candidates candidates = FindCandidates(tried, prompt);
  const size_t count = candidates.replicas.size();
  if (count == 0) return {};
  if (is_retry) retry_budget_ -= 1;
  Grant grant{.unread_bytes = prompt.bytes};
  auto reason = count == 1 ? ReplicaChoiceReason::kOnly : ReplicaChoiceReason::kLoad;
  if (!candidates.views.empty()) {
    const ReplicaChoice choice =
        ChooseReplica(candidates.view_span(), prompt.bytes, random_(), options_.choice);
    reason = choice.reason;
    grant.replica = candidates.replicas[choice.index];
    const int64_t matched = candidates.views[choice.index].matched_bytes;
    grant.unread_bytes -= std::min(matched, prompt.bytes);
    // What it holds already is not sent anew.
    grant.replica->prefixes.OnSent(
        std::span(prompt.hashes).subspan(static_cast<size_t>(matched) / PromptBlocks::kBlockBytes));
  } else {
    const size_t start = next_++;
    for (size_t i = 0; i < count; ++i) {
      Replica* const replica = candidates.replicas[(start + i) % count];
      if (grant.replica == nullptr || replica->in_flight < grant.replica->in_flight) {
        grant.replica = replica;
      }
    }
  }
  ++grant.replica->choice_counts[static_cast<size_t>(reason)];
  ++grant.replica->in_flight;
  grant.replica->unread_bytes += grant.unread_bytes;
  return grant;
}

void ReplicaSet::OnRead(Grant& grant) {
  if (grant.unread_bytes == 0) return;
  absl::MutexLock lock(&mutex_);
  grant.replica->unread_bytes -= std::exchange(grant.unread_bytes, 0);
}

void ReplicaSet::Release(Grant& grant, const PromptBlocks& prompt, const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  Replica* const replica = grant.replica;
  --replica->in_flight;
  replica->unread_bytes -= std::exchange(grant.unread_bytes, 0);
  // Not taken, as far as is known: the next one with this prompt shall not come for it.
  if (IsRetryable(status)) replica->prefixes.OnRefused(prompt.hashes);
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
    ReportedLoad asked;
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
      probes.push_back({replica.get(),
                        is_probe,
                        {.own_calls = static_cast<double>(replica->in_flight),
                         .own_unread_bytes = static_cast<double>(replica->unread_bytes)}});
    }
  }
  for (const Probe& probe : probes) {
    probe.replica->client->Info(
        now + options_.probe_timeout,
        [self = shared_from_this(), probe](absl::StatusOr<v1::WorkerInfoResponse> info) {
          self->OnInfo(probe.replica, probe.is_probe, probe.asked, std::move(info));
        });
  }
}

void ReplicaSet::OnInfo(Replica* replica, bool is_probe, const ReportedLoad& asked,
                        absl::StatusOr<v1::WorkerInfoResponse> info) {
  // Outside the lock: a summary may be large.
  std::optional<ReplicaPrefixes::Blocks> blocks;
  std::string refusal;
  if (info.ok() && info->has_prefixes()) {
    absl::StatusOr<ReplicaPrefixes::Blocks> parsed = ReplicaPrefixes::Parse(info->prefixes());
    if (parsed.ok()) {
      blocks = *std::move(parsed);
    } else {
      refusal = std::string(parsed.status().message());
    }
    info->clear_prefixes();
  }
  absl::MutexLock lock(&mutex_);
  replica->asked = false;
  if (info.ok()) {
    replica->breaker.OnSuccess(is_probe);
    replica->draining = info->draining();
    // What has come since it was asked may be among what it reports: rather too few calls of others
    // than this gateway's own taken for theirs.
    replica->reported_load = {
        .own_calls = std::max<double>(asked.own_calls, replica->in_flight),
        .own_unread_bytes =
            std::max<double>(asked.own_unread_bytes, static_cast<double>(replica->unread_bytes))};
    replica->reported_load.calls = static_cast<double>(info->running()) + info->waiting();
    replica->reported_load.unread_bytes =
        static_cast<double>(info->waiting_tokens()) * kBytesPerToken;
    replica->reported_at = options_.clock();
    replica->info = *std::move(info);
    replica->last_error = replica->draining ? "draining" : "";
    // Harms nobody: the replica takes calls by its load.
    replica->prefix_refusal = std::move(refusal);
    if (blocks.has_value()) {
      replica->prefixes.SetSummary(*std::move(blocks));
    } else {
      replica->prefixes.Clear();
    }
  } else {
    replica->last_error = std::string(info.status().message());
    replica->breaker.OnFailure(options_.clock(), is_probe);
    // One that comes back may have been started anew.
    replica->prefixes.Clear();
    // Until the breaker opens, the next failure is found out soon.
    replica->ask_at = absl::InfinitePast();
  }
}

std::vector<ReplicaExplanation> ReplicaSet::Explain(const v1::WorkerPrompt& prompt,
                                                    std::string_view cache_salt) const {
  const PromptBlocks blocks = workers::HashPrompt(prompt, cache_salt);
  std::vector<ReplicaExplanation> result;
  absl::MutexLock lock(&mutex_);
  for (const auto& replica : replicas_) {
    ReplicaExplanation& one = result.emplace_back();
    one.address = replica->client->address();
    one.prompt_bytes = blocks.bytes;
    one.prefix_bytes =
        static_cast<int64_t>(replica->prefixes.Matched(blocks.hashes) * PromptBlocks::kBlockBytes);
    one.load = replica->in_flight;
    one.reason = absl::StrCat("takes no calls: ", replica->draining ? "it is draining" : "",
                              replica->draining ? "" : "its last ones failed");
  }
  const Candidates candidates = FindCandidates(/*tried=*/0, blocks);
  const size_t count = candidates.replicas.size();
  if (candidates.views.empty()) {
    // As Acquire does it without anything known.
    int fewest = 0;
    for (size_t i = 0; i < count; ++i) {
      const int calls = candidates.replicas[i]->in_flight;
      fewest = i == 0 ? calls : std::min(fewest, calls);
    }
    const auto equal =
        std::count_if(candidates.replicas.begin(), candidates.replicas.end(),
                      [fewest](const Replica* replica) { return replica->in_flight == fewest; });
    for (const Replica* replica : candidates.replicas) {
      ReplicaExplanation& one = result[replica->index];
      one.chosen = replica->in_flight == fewest;
      one.probability = one.chosen ? 1 / static_cast<double>(equal) : 0;
      one.reason = count == 1 ? "the only one that takes calls"
                              : absl::StrCat("has ", replica->in_flight,
                                             " calls of this gateway; no replica says what "
                                             "beginnings of prompts it holds");
    }
    return result;
  }
  const std::vector<ReplicaAppraisal> appraisals =
      AppraiseReplicas(candidates.view_span(), blocks.bytes, options_.choice);
  double largest = 0;
  for (const ReplicaAppraisal& appraisal : appraisals) {
    largest = std::max(largest, appraisal.probability);
  }
  for (size_t i = 0; i < count; ++i) {
    const Replica& replica = *candidates.replicas[i];
    const ReplicaView& view = candidates.views[i];
    const ReplicaAppraisal& appraisal = appraisals[i];
    ReplicaExplanation& one = result[replica.index];
    one.load = view.load;
    one.probability = appraisal.probability;
    one.chosen = appraisal.probability >= largest;
    one.reason = replica.prefixes.known()
                     ? absl::StrCat("holds ", one.prefix_bytes, " of ", one.prompt_bytes, " bytes")
                     : std::string("does not say what it holds");
    if (!replica.prefix_refusal.empty()) {
      absl::StrAppend(&one.reason, " (", replica.prefix_refusal, ")");
    }
    absl::StrAppend(&one.reason, ", has ", std::llround(view.load), " calls and ",
                    std::llround(view.unread_bytes), " bytes to read: costs ",
                    std::llround(appraisal.cost), " bytes");
    if (one.prefix_bytes > 0 && !appraisal.within_bound) {
      absl::StrAppend(&one.reason, "; its prefix does not count, since it would have more than ",
                      std::llround(appraisal.bound), " calls");
    }
    absl::StrAppend(&one.reason, "; gets ", std::llround(100 * appraisal.probability),
                    " % of such prompts");
  }
  return result;
}

std::vector<ReplicaChoiceCounts> ReplicaSet::choice_counts() const {
  absl::MutexLock lock(&mutex_);
  std::vector<ReplicaChoiceCounts> result;
  for (const auto& replica : replicas_) result.push_back(replica->choice_counts);
  return result;
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
