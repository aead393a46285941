// How long whoever is waited for may itself wait for others.
#ifndef OCTOGATE_GATEWAY_WAITING_TIME_H_
#define OCTOGATE_GATEWAY_WAITING_TIME_H_

#include <algorithm>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace octogate::gateway {

// When to stop waiting for what an answer is made of that is due at `deadline`: a tenth earlier, so
// that what has come, and what has not, is told in time; and after `most` at the latest.
inline absl::Time WaitUntil(absl::Time deadline, absl::Duration most = absl::InfiniteDuration()) {
  const absl::Time now = absl::Now();
  return now + std::min(0.9 * (deadline - now), most);
}

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_WAITING_TIME_H_
