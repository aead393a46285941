#ifndef OCTOGATE_GATEWAY_TOOLS_CLOCK_MOMENT_H_
#define OCTOGATE_GATEWAY_TOOLS_CLOCK_MOMENT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "gateway/tools/clock/zones.h"

// Points in time as people write them, and what they mean on a given clock. Years 1 to 9999 of the
// Gregorian calendar, extended backwards.

namespace octogate::gateway::clock {

enum class Unit { kYears, kMonths, kWeeks, kDays, kHours, kMinutes, kSeconds };

struct Shift {
  int64_t amount = 0;  // Negative: earlier.
  Unit unit = Unit::kDays;
};

struct TimeOfDay {
  int hour = 0;
  int minute = 0;
  int second = 0;
};

// A point in time as written.
struct MomentSpec {
  enum class Base {
    kNow,
    kToday,     // Plus `days`: tomorrow is today + 1.
    kDate,      // year, month, day.
    kMonthDay,  // month, day: a year is chosen.
    kWeekday,   // The next one, today included.
    kUnix,      // `seconds` since 1970-01-01 00:00:00 UTC.
  };
  Base base = Base::kNow;
  int column = 1;
  int64_t seconds = 0;
  int days = 0;
  int year = 0;
  int month = 0;
  int day = 0;
  absl::Weekday weekday = absl::Weekday::monday;
  std::optional<TimeOfDay> time;
  std::vector<Shift> shifts;  // Applied in order.
  std::optional<Zone> zone;
};

// A point in time that is known.
struct Moment {
  absl::Time time;
  absl::CivilSecond local;  // What a clock in `zone` showed or would show.
  bool has_time = false;    // Otherwise a date: `time` is its first instant.
  Zone zone;
  std::string note;                      // About a clock change, else empty.
  std::optional<absl::Time> other_time;  // The second instant of a local time that occurs twice.
};

struct Reading {
  absl::Time now;
  Zone default_zone;
};

// Which year a date without one gets: the next such day from `day` on, or the last one up to it.
struct YearChoice {
  enum class Direction { kNext, kPrevious };
  Direction direction = Direction::kNext;
  std::optional<absl::CivilDay> day;  // Today when absent.
};

// INVALID_ARGUMENT for a day that does not exist, OUT_OF_RANGE past the years 1 to 9999.
absl::StatusOr<Moment> Resolve(const MomentSpec& spec, const Reading& reading,
                               const YearChoice& choice = {});

// The same instant on another clock.
Moment InZone(absl::Time time, const Zone& zone);

// "Sunday, 2026-03-01" or "Sunday, 2026-03-01 14:30:00 EST (America/New_York, UTC-05:00)".
std::string Format(const Moment& moment);
std::string FormatDay(absl::CivilDay day);

// `day` moved by whole months; a day that the month lacks becomes its last ("Jan 31 + 1 month" is
// the last of February).
absl::CivilDay AddMonths(absl::CivilDay day, int64_t months);

// first + months (as AddMonths) + days == second, with the most months; first <= second.
struct CalendarDifference {
  int64_t months = 0;
  int64_t days = 0;
};
CalendarDifference Difference(absl::CivilDay first, absl::CivilDay second);

// ISO 8601 week: the year it belongs to and its number.
struct IsoWeek {
  int64_t year = 0;
  int week = 0;
};
IsoWeek IsoWeekOf(absl::CivilDay day);

bool IsLeapYear(int64_t year);
int DaysInMonth(int64_t year, int month);

}  // namespace octogate::gateway::clock

#endif  // OCTOGATE_GATEWAY_TOOLS_CLOCK_MOMENT_H_
