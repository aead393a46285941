// Decides when a replica that fails is left alone, and when it is asked again.
//
//   closed --failures_to_open failures in a row--> open
//   open --after a pause that doubles each time--> half-open: one probe
//   half-open --probe succeeds--> closed; --probe fails--> open
#ifndef OCTOGATE_GATEWAY_CIRCUIT_BREAKER_H_
#define OCTOGATE_GATEWAY_CIRCUIT_BREAKER_H_

#include <cstdint>
#include <random>
#include <string_view>

#include "absl/time/time.h"

namespace octogate::gateway {

struct CircuitBreakerOptions {
  int failures_to_open = 3;
  // The first pause, and the longest.
  absl::Duration initial_pause = absl::Milliseconds(250);
  absl::Duration max_pause = absl::Seconds(10);
  // A pause is multiplied by a number drawn from [1 - jitter, 1 + jitter], so that many gateways do
  // not return to a replica at the same moment.
  double jitter = 0.2;
};

// Knows no clock: the time is passed in. Not thread-safe.
class CircuitBreaker {
 public:
  enum class State { kClosed, kOpen, kHalfOpen };

  explicit CircuitBreaker(const CircuitBreakerOptions& options, uint64_t seed)
      : options_(options), random_(seed) {}

  State state() const { return state_; }

  // Whether ordinary calls may be made.
  bool allows_calls() const { return state_ == State::kClosed; }

  // Whether a probe should be made now: the breaker becomes half-open, and the caller reports the
  // probe's outcome. False while a probe is under way.
  bool TakeProbe(absl::Time now);

  // Outcomes of calls and probes. One that began before the breaker opened does not close it.
  void OnSuccess(bool is_probe);
  void OnFailure(absl::Time now, bool is_probe);

 private:
  void Open(absl::Time now);

  const CircuitBreakerOptions options_;
  std::mt19937_64 random_;
  State state_ = State::kClosed;
  int failures_ = 0;  // in a row, while closed
  int openings_ = 0;  // in a row
  absl::Time probe_at_;
};

// "closed", "open" or "half-open".
std::string_view CircuitBreakerStateName(CircuitBreaker::State state);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CIRCUIT_BREAKER_H_
