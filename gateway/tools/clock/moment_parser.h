#ifndef OCTOGATE_GATEWAY_TOOLS_CLOCK_MOMENT_PARSER_H_
#define OCTOGATE_GATEWAY_TOOLS_CLOCK_MOMENT_PARSER_H_

#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "gateway/tools/clock/cursor.h"
#include "gateway/tools/clock/moment.h"

// Points in time, as text:
//   now, today, tomorrow, yesterday, Christmas, New Year's Eve ...; Monday ... Sunday (the next
//   one) 2026-03-01, 2026/03/01, 25 December 2027, Dec 25, 2027, 25th of December; 03-01 (next 1
//   March) 25/12/2027 or 12/25/2027, where only one reading exists; 03/04/2027 is refused each
//   followed by a time: 14:30, 14:30:15, 2:30 pm, 3pm, noon, midnight; a time alone is today's
//   @1700000000 (Unix seconds)
//   each followed by + or -, a number and a unit, repeatedly: + 90 days, - 2 weeks + 36 hours

namespace octogate::gateway::clock {

// All but the zone.
absl::StatusOr<MomentSpec> ParseMoment(Cursor& cursor);

// "90 days": the amount is not negative. nullopt, and the cursor unmoved, when there is none.
absl::StatusOr<std::optional<Shift>> ParseAmount(Cursor& cursor);

std::optional<Unit> ParseUnit(Cursor& cursor);

// At most 12 digits, with an optional sign.
absl::StatusOr<int64_t> ParseInteger(Cursor& cursor);

}  // namespace octogate::gateway::clock

#endif  // OCTOGATE_GATEWAY_TOOLS_CLOCK_MOMENT_PARSER_H_
