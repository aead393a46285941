#ifndef OCTOGATE_GATEWAY_TOOLS_CLOCK_CLOCK_H_
#define OCTOGATE_GATEWAY_TOOLS_CLOCK_CLOCK_H_

#include "gateway/tools/tool.h"

namespace octogate::gateway {

// `clock`: dates, times of day and time zones ("what time is it in Tokyo?", "days until 25
// December", "2026-03-01 14:30 in New York to Tokyo"). What it understands: clock/request.h.
//
// Where clocks are set forward or back, the answer says that a local time does not exist or occurs
// twice. A request that is ambiguous (03/04/2026, "3pm in Portland") is refused, with the readings.
//
// Parameters: `time_zone`, the zone of times that name none; the context's default otherwise.
ToolInfo ClockToolInfo();

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_TOOLS_CLOCK_CLOCK_H_
