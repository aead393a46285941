#include "gateway/circuit_breaker.h"

#include <algorithm>
#include <random>

namespace octogate::gateway {

bool CircuitBreaker::TakeProbe(absl::Time now) {
  if (state_ != State::kOpen || now < probe_at_) return false;
  state_ = State::kHalfOpen;
  return true;
}

void CircuitBreaker::OnSuccess(bool is_probe) {
  if (state_ == State::kClosed || is_probe) {
    state_ = State::kClosed;
    failures_ = 0;
    openings_ = 0;
  }
}

void CircuitBreaker::OnFailure(absl::Time now, bool is_probe) {
  if (state_ == State::kClosed) {
    if (++failures_ >= options_.failures_to_open) Open(now);
  } else if (state_ == State::kHalfOpen && is_probe) {
    Open(now);
  }
}

void CircuitBreaker::Open(absl::Time now) {
  state_ = State::kOpen;
  failures_ = 0;
  absl::Duration pause = options_.initial_pause;
  for (int i = 0; i < openings_ && pause < options_.max_pause; ++i) pause *= 2;
  ++openings_;
  std::uniform_real_distribution<double> factor(1 - options_.jitter, 1 + options_.jitter);
  probe_at_ = now + std::min(pause, options_.max_pause) * factor(random_);
}

std::string_view CircuitBreakerStateName(CircuitBreaker::State state) {
  switch (state) {
    case CircuitBreaker::State::kClosed:
      return "closed";
    case CircuitBreaker::State::kOpen:
      return "open";
    case CircuitBreaker::State::kHalfOpen:
      return "half-open";
  }
  return "closed";
}

}  // namespace octogate::gateway
