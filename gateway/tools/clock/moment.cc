#include "gateway/tools/clock/moment.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gateway/tools/request_text.h"

namespace octogate::gateway::clock {
namespace {

constexpr int64_t kMinYear = 1;
constexpr int64_t kMaxYear = 9999;

absl::Status CheckYear(int64_t year) {
  if (year >= kMinYear && year <= kMaxYear) return absl::OkStatus();
  return absl::OutOfRangeError("the result lies outside the years 1 to 9999");
}

std::string TimeText(absl::CivilSecond time) {
  return absl::StrFormat("%02d:%02d:%02d", time.hour(), time.minute(), time.second());
}

std::string DayText(absl::CivilDay day) {
  return absl::StrFormat("%04d-%02d-%02d", day.year(), day.month(), day.day());
}

// Whether `time` can be shown in any zone without leaving the years.
absl::Status CheckInstant(absl::Time time) {
  const absl::TimeZone utc = absl::UTCTimeZone();
  if (time >= absl::FromCivil(absl::CivilDay(kMinYear, 1, 2), utc) &&
      time < absl::FromCivil(absl::CivilDay(kMaxYear, 12, 31), utc)) {
    return absl::OkStatus();
  }
  return absl::OutOfRangeError("the result lies outside the years 1 to 9999");
}

absl::StatusOr<absl::CivilDay> NearestMonthDay(const MomentSpec& spec, absl::CivilDay from,
                                               YearChoice::Direction direction) {
  const bool next = direction == YearChoice::Direction::kNext;
  constexpr int kLongestWaitYears = 8;  // For 29 February around 1900.
  for (int64_t step = 0; step <= kLongestWaitYears; ++step) {
    const int64_t year = from.year() + (next ? step : -step);
    if (spec.day > DaysInMonth(year, spec.month)) continue;
    const absl::CivilDay day(year, spec.month, spec.day);
    if (next ? day >= from : day <= from) return day;
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("there is no day %02d-%02d in any year", spec.month, spec.day));
}

absl::StatusOr<absl::CivilDay> DayOf(const MomentSpec& spec, absl::CivilDay today,
                                     const YearChoice& choice) {
  switch (spec.base) {
    case MomentSpec::Base::kToday:
      return today + spec.days;
    case MomentSpec::Base::kDate:
      if (spec.day > DaysInMonth(spec.year, spec.month)) {
        return absl::InvalidArgumentError(
            absl::StrFormat("%04d-%02d-%02d does not exist: that month has %d days", spec.year,
                            spec.month, spec.day, DaysInMonth(spec.year, spec.month)));
      }
      return absl::CivilDay(spec.year, spec.month, spec.day);
    case MomentSpec::Base::kMonthDay:
      return NearestMonthDay(spec, choice.day.value_or(today), choice.direction);
    case MomentSpec::Base::kWeekday: {
      const absl::CivilDay from = choice.day.value_or(today);
      return choice.direction == YearChoice::Direction::kNext
                 ? absl::NextWeekday(from - 1, spec.weekday)
                 : absl::PrevWeekday(from + 1, spec.weekday);
    }
    case MomentSpec::Base::kNow:
    case MomentSpec::Base::kUnix:
      break;
  }
  return absl::InternalError("not a day");
}

// The instant at which a clock in moment.zone shows moment.local.
void ReadLocal(Moment& moment) {
  const absl::TimeZone::TimeInfo info = moment.zone.zone.At(moment.local);
  moment.time = info.pre;
  moment.note.clear();
  moment.other_time.reset();
  if (info.kind == absl::TimeZone::TimeInfo::REPEATED) {
    moment.other_time = info.post;
    moment.note = absl::StrCat(TimeText(moment.local), " occurs twice on ",
                               DayText(absl::CivilDay(moment.local)), " in ", moment.zone.name,
                               " because clocks are set back; this is the first, the second is ",
                               absl::ToInt64Seconds(info.post - info.pre) / 60, " min later");
  } else if (info.kind == absl::TimeZone::TimeInfo::SKIPPED) {
    const absl::CivilSecond skipped = moment.local;
    // A date starts at its first instant, which is where the clocks skip to.
    moment.time = moment.has_time ? info.pre : info.trans;
    moment.local = absl::ToCivilSecond(moment.time, moment.zone.zone);
    if (moment.has_time) {
      moment.note = absl::StrCat(TimeText(skipped), " does not exist on ",
                                 DayText(absl::CivilDay(skipped)), " in ", moment.zone.name,
                                 " because clocks are set forward; this is the time by the clock "
                                 "before the change");
    }
  }
}

absl::CivilSecond WithDay(absl::CivilSecond local, absl::CivilDay day) {
  return absl::CivilSecond(day.year(), day.month(), day.day(), local.hour(), local.minute(),
                           local.second());
}

absl::Status ApplyElapsed(const Shift& shift, Moment& moment) {
  const absl::Duration unit = shift.unit == Unit::kHours     ? absl::Hours(1)
                              : shift.unit == Unit::kMinutes ? absl::Minutes(1)
                                                             : absl::Seconds(1);
  moment.time += shift.amount * unit;
  if (absl::Status status = CheckInstant(moment.time); !status.ok()) return status;
  moment.has_time = true;
  moment.local = absl::ToCivilSecond(moment.time, moment.zone.zone);
  moment.note.clear();
  moment.other_time.reset();
  return absl::OkStatus();
}

absl::Status Apply(const Shift& shift, Moment& moment) {
  const absl::CivilDay day(moment.local);
  absl::CivilDay moved = day;
  switch (shift.unit) {
    case Unit::kYears:
      moved = AddMonths(day, 12 * shift.amount);
      break;
    case Unit::kMonths:
      moved = AddMonths(day, shift.amount);
      break;
    case Unit::kWeeks:
      moved = day + 7 * shift.amount;
      break;
    case Unit::kDays:
      moved = day + shift.amount;
      break;
    default:
      return ApplyElapsed(shift, moment);
  }
  if (absl::Status status = CheckYear(moved.year()); !status.ok()) return status;
  moment.local = WithDay(moment.local, moved);
  ReadLocal(moment);
  return absl::OkStatus();
}

absl::StatusOr<Moment> ResolveUnchecked(const MomentSpec& spec, const Reading& reading,
                                        const YearChoice& choice) {
  const Zone& zone = spec.zone.has_value() ? *spec.zone : reading.default_zone;
  if (absl::Status status = CheckInstant(reading.now); !status.ok()) return status;
  Moment moment = InZone(reading.now, zone);
  if (spec.base == MomentSpec::Base::kUnix) {
    const absl::Time time = absl::FromUnixSeconds(spec.seconds);
    if (absl::Status status = CheckInstant(time); !status.ok()) return status;
    moment = InZone(time, zone);
  } else if (spec.base != MomentSpec::Base::kNow) {
    const absl::StatusOr<absl::CivilDay> day = DayOf(spec, absl::CivilDay(moment.local), choice);
    if (!day.ok()) return day.status();
    if (absl::Status status = CheckYear(day->year()); !status.ok()) return status;
    const TimeOfDay time = spec.time.value_or(TimeOfDay{});
    moment.has_time = spec.time.has_value();
    moment.local = absl::CivilSecond(day->year(), day->month(), day->day(), time.hour, time.minute,
                                     time.second);
    ReadLocal(moment);
  }
  for (const Shift& shift : spec.shifts) {
    if (absl::Status status = Apply(shift, moment); !status.ok()) return status;
  }
  return moment;
}

}  // namespace

absl::StatusOr<Moment> Resolve(const MomentSpec& spec, const Reading& reading,
                               const YearChoice& choice) {
  absl::StatusOr<Moment> moment = ResolveUnchecked(spec, reading, choice);
  if (!moment.ok()) return AtColumn(spec.column, moment.status());
  return moment;
}

Moment InZone(absl::Time time, const Zone& zone) {
  return {.time = time,
          .local = absl::ToCivilSecond(time, zone.zone),
          .has_time = true,
          .zone = zone,
          .note = "",
          .other_time = std::nullopt};
}

std::string FormatDay(absl::CivilDay day) {
  constexpr const char* kNames[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                    "Friday", "Saturday", "Sunday"};
  return absl::StrCat(kNames[static_cast<int>(absl::GetWeekday(day))], ", ", DayText(day));
}

std::string Format(const Moment& moment) {
  std::string text = FormatDay(absl::CivilDay(moment.local));
  if (!moment.has_time) return text;
  const absl::TimeZone::CivilInfo info = moment.zone.zone.At(moment.time);
  absl::StrAppend(&text, " ", TimeText(moment.local));
  const std::string offset = OffsetName(info.offset);
  if (moment.zone.name == "UTC") return text + " UTC";
  if (moment.zone.name == offset) return absl::StrCat(text, " ", offset);
  // Zones without an abbreviation call themselves by their offset, such as "+03".
  const std::string_view abbreviation = info.zone_abbr;
  const bool named = abbreviation.find_first_of("+-0123456789") == std::string_view::npos;
  return absl::StrCat(text, named ? " " : "", named ? info.zone_abbr : "", " (", moment.zone.name,
                      ", ", offset, ")");
}

absl::CivilDay AddMonths(absl::CivilDay day, int64_t months) {
  const absl::CivilMonth month = absl::CivilMonth(day) + months;
  // The first of next month minus one is the last that there is.
  const absl::CivilDay last = absl::CivilDay(month + 1) - 1;
  return std::min(absl::CivilDay(month) + (day.day() - 1), last);
}

CalendarDifference Difference(absl::CivilDay first, absl::CivilDay second) {
  int64_t months = absl::CivilMonth(second) - absl::CivilMonth(first);
  if (AddMonths(first, months) > second) --months;
  return {.months = months, .days = second - AddMonths(first, months)};
}

IsoWeek IsoWeekOf(absl::CivilDay day) {
  // A week belongs to the year of its Thursday.
  const absl::CivilDay thursday =
      absl::NextWeekday(absl::PrevWeekday(day + 1, absl::Weekday::monday), absl::Weekday::thursday);
  return {.year = thursday.year(), .week = (absl::GetYearDay(thursday) - 1) / 7 + 1};
}

bool IsLeapYear(int64_t year) { return DaysInMonth(year, 2) == 29; }

int DaysInMonth(int64_t year, int month) {
  const absl::CivilMonth first(year, month);
  return static_cast<int>(absl::CivilDay(first + 1) - absl::CivilDay(first));
}

}  // namespace octogate::gateway::clock
