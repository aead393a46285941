#ifndef OCTOGATE_GATEWAY_TOOLS_CLOCK_DIFFERENCE_H_
#define OCTOGATE_GATEWAY_TOOLS_CLOCK_DIFFERENCE_H_

#include <optional>
#include <string>

#include "gateway/tools/clock/moment.h"

namespace octogate::gateway::clock {

// From `first` to `second`, with both named: "33 days (from Sunday, 2026-11-22 to Friday,
// 2026-12-25)". Between dates it counts days of the calendar; weeks, months and years are followed
// by the days that are left over. When a time of day or a unit shorter than a day is involved it is
// the time that passes, clock changes included ("2 days 6 h 0 min"), where a day is 24 hours.
// Without a unit: days or the time that passes. Negative when `second` is the earlier.
std::string DescribeDifference(std::optional<Unit> unit, const Moment& first, const Moment& second);

// "Asia/Tokyo is 9 h ahead of UTC".
std::string DescribeZoneDifference(const Zone& first, const Zone& second, absl::Time now);

// "1 day", "2 days".
std::string Count(int64_t count, std::string_view singular);

}  // namespace octogate::gateway::clock

#endif  // OCTOGATE_GATEWAY_TOOLS_CLOCK_DIFFERENCE_H_
