#ifndef OCTOGATE_COMMON_CLOCK_H_
#define OCTOGATE_COMMON_CLOCK_H_

#include <chrono>
#include <functional>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace octogate {

// Where code that depends on the time gets it from, so that tests can fix it. May be called from
// any thread.
using Clock = std::function<absl::Time()>;

inline Clock SystemClock() {
  return [] { return absl::Now(); };
}

// A clock that nobody sets: for ages, and for what is not to be tried again before some time. Its
// times may be compared with one another alone.
inline absl::Time SteadyNow() {
  return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

// A time of the wall clock as one of SteadyNow(), by how far it is off now: whoever waits until
// then waits as long, however the wall clock is set meanwhile.
inline absl::Time ToSteady(absl::Time wall) { return SteadyNow() + (wall - absl::Now()); }

}  // namespace octogate

#endif  // OCTOGATE_COMMON_CLOCK_H_
