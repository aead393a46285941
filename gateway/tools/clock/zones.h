#ifndef OCTOGATE_GATEWAY_TOOLS_CLOCK_ZONES_H_
#define OCTOGATE_GATEWAY_TOOLS_CLOCK_ZONES_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

// How people name time zones. In this order, in any case, "-" and "_" like a space, "." and "'"
// left out, a final "time" ignored:
//   UTC, GMT, Z, UTC+5:30, GMT-3, +05:30   fixed offsets, at most 18 hours
//   America/New_York                       IANA names
//   San Francisco, Mumbai, PST, Japan      a table of cities, countries and abbreviations
//   New York                               the last part of an IANA name
// Only names from these tables reach the file system. A name for several zones with different
// clocks is an error that lists them.

namespace octogate::gateway::clock {

struct Zone {
  absl::TimeZone zone;
  std::string name;  // "Asia/Tokyo", "UTC+05:30".
};

absl::StatusOr<Zone> FindZone(std::string_view text);

// "UTC+09:00"; with seconds only where there are some (local mean times).
std::string OffsetName(int seconds);

// Every name of the IANA database that FindZone knows.
absl::Span<const std::string_view> IanaZoneNames();

struct Alias {
  std::string_view name;  // In the form that FindZone compares: lower case, single spaces.
  // Zones it may mean, separated by spaces: IANA names or offsets such as "UTC-08:00".
  std::string_view zones;
};

absl::Span<const Alias> ZoneAliases();

}  // namespace octogate::gateway::clock

#endif  // OCTOGATE_GATEWAY_TOOLS_CLOCK_ZONES_H_
