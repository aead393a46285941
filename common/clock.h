#ifndef OCTOGATE_COMMON_CLOCK_H_
#define OCTOGATE_COMMON_CLOCK_H_

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

}  // namespace octogate

#endif  // OCTOGATE_COMMON_CLOCK_H_
