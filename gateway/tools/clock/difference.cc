#include "gateway/tools/clock/difference.h"

#include <cstdlib>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace octogate::gateway::clock {
namespace {

constexpr int64_t kSecondsPerMinute = 60;
constexpr int64_t kSecondsPerHour = 3600;
constexpr int64_t kSecondsPerDay = 86400;

bool IsShorterThanADay(Unit unit) {
  return unit == Unit::kHours || unit == Unit::kMinutes || unit == Unit::kSeconds;
}

std::string Signed(bool negative, const std::string& text) {
  if (!negative) return text;
  const bool several = text.find(' ') != text.rfind(' ');
  return several ? absl::StrCat("-(", text, ")") : absl::StrCat("-", text);
}

// Hours, minutes and seconds, zeros at the end left off.
std::string ClockText(int64_t seconds, Unit largest) {
  std::vector<std::string> parts;
  if (largest == Unit::kHours) {
    parts.push_back(absl::StrCat(seconds / kSecondsPerHour, " h"));
    seconds %= kSecondsPerHour;
  }
  if (largest == Unit::kMinutes || (largest == Unit::kHours && seconds > 0)) {
    parts.push_back(absl::StrCat(seconds / kSecondsPerMinute, " min"));
    seconds %= kSecondsPerMinute;
  }
  if (largest == Unit::kSeconds || seconds > 0) parts.push_back(absl::StrCat(seconds, " s"));
  return absl::StrJoin(parts, " ");
}

std::string ElapsedText(std::optional<Unit> unit, int64_t seconds) {
  if (unit.has_value() && IsShorterThanADay(*unit)) return ClockText(seconds, *unit);
  const int64_t days = seconds / kSecondsPerDay;
  const int64_t rest = seconds % kSecondsPerDay;
  if (days == 0) return ClockText(rest, Unit::kHours);
  if (rest == 0) return Count(days, "day");
  return absl::StrCat(Count(days, "day"), " ", ClockText(rest, Unit::kHours));
}

std::string CalendarText(std::optional<Unit> unit, absl::CivilDay first, absl::CivilDay second) {
  const int64_t days = second - first;
  if (!unit.has_value() || *unit == Unit::kDays) return Count(days, "day");
  std::vector<std::string> parts;
  int64_t rest = 0;
  if (*unit == Unit::kWeeks) {
    parts.push_back(Count(days / 7, "week"));
    rest = days % 7;
  } else {
    const CalendarDifference difference = Difference(first, second);
    int64_t months = difference.months;
    rest = difference.days;
    if (*unit == Unit::kYears) {
      parts.push_back(Count(months / 12, "year"));
      months %= 12;
    }
    if (*unit == Unit::kMonths || months > 0) parts.push_back(Count(months, "month"));
  }
  if (rest > 0) parts.push_back(Count(rest, "day"));
  return absl::StrJoin(parts, " ");
}

}  // namespace

std::string Count(int64_t count, std::string_view singular) {
  return absl::StrCat(count, " ", absl::string_view(singular.data(), singular.size()),
                      count == 1 ? "" : "s");
}

std::string DescribeDifference(std::optional<Unit> unit, const Moment& first,
                               const Moment& second) {
  const bool calendar = unit.has_value() && !IsShorterThanADay(*unit) && *unit != Unit::kDays;
  const bool elapsed = !calendar && (first.has_time || second.has_time ||
                                     (unit.has_value() && IsShorterThanADay(*unit)));
  const absl::CivilDay from(first.local);
  const absl::CivilDay to(second.local);
  std::string length;
  if (elapsed) {
    const int64_t seconds = absl::ToInt64Seconds(second.time - first.time);
    length = Signed(seconds < 0, ElapsedText(unit, std::abs(seconds)));
  } else {
    length =
        Signed(to < from, to < from ? CalendarText(unit, to, from) : CalendarText(unit, from, to));
  }
  std::string text = absl::StrCat(length, " (from ", elapsed ? Format(first) : FormatDay(from),
                                  " to ", elapsed ? Format(second) : FormatDay(to), ")");
  for (const Moment* moment : {&first, &second}) {
    if (elapsed && !moment->note.empty()) absl::StrAppend(&text, "; ", moment->note);
  }
  return text;
}

std::string DescribeZoneDifference(const Zone& first, const Zone& second, absl::Time now) {
  const int offset = first.zone.At(now).offset;
  const int other = second.zone.At(now).offset;
  const std::string offsets =
      absl::StrCat(" now (", OffsetName(offset), " and ", OffsetName(other), ")");
  if (offset == other) {
    return absl::StrCat(first.name, " and ", second.name, " show the same time", offsets);
  }
  return absl::StrCat(first.name, " is ", ClockText(std::abs(offset - other), Unit::kHours),
                      offset > other ? " ahead of " : " behind ", second.name, offsets);
}

}  // namespace octogate::gateway::clock
