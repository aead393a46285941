// What the sources of ReplicaSet share. Nobody else includes it.
#ifndef OCTOGATE_GATEWAY_REPLICA_SET_INTERNAL_H_
#define OCTOGATE_GATEWAY_REPLICA_SET_INTERNAL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/steady_event.h"
#include "gateway/circuit_breaker.h"
#include "gateway/model_client.h"
#include "gateway/replica_choice.h"
#include "gateway/replica_prefixes.h"
#include "gateway/replica_set.h"
#include "gateway/waiting_time.h"

namespace octogate::gateway {

// Whether another replica may succeed where this one did not.
inline bool IsRetryable(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsResourceExhausted(status) ||
         absl::IsAborted(status);
}

// Asks so many replicas at the same time and waits for them until `deadline`: DEADLINE_EXCEEDED for
// one that has said nothing by then. `ask` begins the call to the one of an index, with the time
// that it has.
template <typename Response>
std::vector<absl::StatusOr<Response>> AskReplicas(
    size_t replicas, absl::Time deadline,
    absl::FunctionRef<void(size_t index, absl::Time deadline,
                           ModelClient::ResponseCallback<Response> on_done)>
        ask) {
  // Outlives this call where a replica is late.
  struct Results {
    absl::Mutex mutex;
    size_t waiting ABSL_GUARDED_BY(mutex) = 0;
    std::vector<absl::StatusOr<Response>> responses ABSL_GUARDED_BY(mutex);
    SteadyNotification all_said;
  };
  auto results = std::make_shared<Results>();
  {
    absl::MutexLock lock(&results->mutex);
    results->waiting = replicas;
    results->responses.resize(replicas, absl::DeadlineExceededError("it has not answered in time"));
  }
  const absl::Time steady_deadline = ToSteady(deadline);
  const absl::Time replicas_deadline = WaitUntil(deadline);
  for (size_t i = 0; i < replicas; ++i) {
    ask(i, replicas_deadline, [results, i](absl::StatusOr<Response> response) {
      absl::MutexLock lock(&results->mutex);
      results->responses[i] = std::move(response);
      if (--results->waiting == 0) results->all_said.Notify();
    });
  }
  if (replicas > 0) results->all_said.WaitUntil(steady_deadline);
  absl::MutexLock lock(&results->mutex);
  return results->responses;
}

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
  std::optional<double> bytes_per_call;  // as measured there
  ReplicaChoiceCounts choice_counts{};
};

struct ReplicaSet::Candidates {
  absl::InlinedVector<Replica*, 16> replicas;
  // Where any of them says what it holds.
  bool by_prefix = false;
  absl::InlinedVector<ReplicaView, 16> views;

  std::span<const ReplicaView> view_span() const { return {views.data(), views.size()}; }
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_REPLICA_SET_INTERNAL_H_
