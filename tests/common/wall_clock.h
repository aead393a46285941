// A wall clock that is set while a test runs, as an administrator or NTP sets a machine's: for this
// process, and what it waits for, alone.
#ifndef OCTOGATE_TESTS_COMMON_WALL_CLOCK_H_
#define OCTOGATE_TESTS_COMMON_WALL_CLOCK_H_

#include "absl/time/time.h"

namespace octogate {

// From now on the clock is ahead of the machine's by so much, in whole seconds; behind it where
// that is negative. Waits until a time of it notice within milliseconds; returns when absl::Now()
// has, which goes on by the processor's counter for some seconds. The steady clock and what is
// relative do not notice.
void SetWallClockAhead(absl::Duration ahead);

}  // namespace octogate

#endif  // OCTOGATE_TESTS_COMMON_WALL_CLOCK_H_
