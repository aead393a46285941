#include "gateway/replica_set.h"

#include <algorithm>
#include <cstddef>
#include <random>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "gateway/call_cost.h"
#include "gateway/replica_prefixes.h"
#include "gateway/replica_set_internal.h"

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

// Whether a failure says that something is wrong with the replica, not with the call.
bool IsReplicaFailure(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsInternal(status) || absl::IsUnknown(status) ||
         absl::IsDataLoss(status) || absl::IsUnimplemented(status);
}

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
      choice_(options.choice),
      random_(
          options.seed.value_or(uint64_t{std::random_device()()} << 32 | std::random_device()())) {}

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

void ReplicaSet::MeasureCalls() {
  absl::InlinedVector<double, 16> measured;
  for (const auto& replica : replicas_) {
    if (replica->bytes_per_call.has_value()) measured.push_back(*replica->bytes_per_call);
  }
  if (measured.empty()) return;
  const auto middle = measured.begin() + static_cast<std::ptrdiff_t>(measured.size() / 2);
  std::nth_element(measured.begin(), middle, measured.end());
  choice_.bytes_per_call = *middle;
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
        ChooseReplica(candidates.view_span(), prompt.bytes, random_(), choice_);
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
        absl::Now() + options_.probe_timeout,
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
    replica->bytes_per_call = MeasuredBytesPerCall(*info);
    MeasureCalls();
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
