#ifndef OCTOGATE_GATEWAY_TOOLS_CLOCK_REQUEST_H_
#define OCTOGATE_GATEWAY_TOOLS_CLOCK_REQUEST_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "gateway/tools/clock/moment.h"

namespace octogate::gateway::clock {

// Answers a request, with M a point in time (clock/moment_parser.h) and ZONE a time zone
// (clock/zones.h):
//   now, today, M, time in ZONE, date in ZONE
//   M in ZONE; M to ZONE; M in ZONE to ZONE
//   UNIT until M, UNIT since M, UNIT between M and M, UNIT from M to M, how long until M
//   90 days from now, 2 weeks ago, 3 months after M, in 36 hours
//   weekday of M, week number of M, day of the year of M, is 2028 a leap year
//   unix time of M, timestamp 1700000000 [in ZONE]
//   time difference between ZONE and ZONE
// The phrases of a question around it ("what is ...?") are taken off.
//
// INVALID_ARGUMENT with the column for everything else, OUT_OF_RANGE past the years 1 to 9999.
absl::StatusOr<std::string> AnswerRequest(std::string_view request, const Reading& reading);

}  // namespace octogate::gateway::clock

#endif  // OCTOGATE_GATEWAY_TOOLS_CLOCK_REQUEST_H_
