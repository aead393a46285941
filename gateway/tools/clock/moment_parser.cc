#include "gateway/tools/clock/moment_parser.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace octogate::gateway::clock {
namespace {

using Base = MomentSpec::Base;

constexpr size_t kMaxShifts = 32;

struct NamedDay {
  std::string_view name;
  int month;
  int day;
};

constexpr NamedDay kNamedDays[] = {
    {"christmas eve", 12, 24},  {"christmas day", 12, 25},  {"christmas", 12, 25},
    {"new year's eve", 12, 31}, {"new years eve", 12, 31},  {"new year's day", 1, 1},
    {"new years day", 1, 1},    {"new year's", 1, 1},       {"new year", 1, 1},
    {"halloween", 10, 31},      {"valentine's day", 2, 14}, {"valentines day", 2, 14},
};

constexpr std::string_view kMonths[][3] = {
    {"january", "jan", "jan"}, {"february", "feb", "feb"}, {"march", "mar", "mar"},
    {"april", "apr", "apr"},   {"may", "may", "may"},      {"june", "jun", "jun"},
    {"july", "jul", "jul"},    {"august", "aug", "aug"},   {"september", "sept", "sep"},
    {"october", "oct", "oct"}, {"november", "nov", "nov"}, {"december", "dec", "dec"},
};

constexpr std::pair<std::string_view, absl::Weekday> kWeekdays[] = {
    {"monday", absl::Weekday::monday},       {"tuesday", absl::Weekday::tuesday},
    {"wednesday", absl::Weekday::wednesday}, {"thursday", absl::Weekday::thursday},
    {"friday", absl::Weekday::friday},       {"saturday", absl::Weekday::saturday},
    {"sunday", absl::Weekday::sunday},
};

constexpr std::pair<std::string_view, Unit> kUnits[] = {
    {"years", Unit::kYears},     {"year", Unit::kYears},     {"yrs", Unit::kYears},
    {"months", Unit::kMonths},   {"month", Unit::kMonths},   {"weeks", Unit::kWeeks},
    {"week", Unit::kWeeks},      {"days", Unit::kDays},      {"day", Unit::kDays},
    {"hours", Unit::kHours},     {"hour", Unit::kHours},     {"hrs", Unit::kHours},
    {"hr", Unit::kHours},        {"h", Unit::kHours},        {"minutes", Unit::kMinutes},
    {"minute", Unit::kMinutes},  {"mins", Unit::kMinutes},   {"min", Unit::kMinutes},
    {"seconds", Unit::kSeconds}, {"second", Unit::kSeconds}, {"secs", Unit::kSeconds},
    {"sec", Unit::kSeconds},     {"s", Unit::kSeconds},
};

bool IsLetter(char c) { return absl::ascii_isalpha(static_cast<unsigned char>(c)); }

int AcceptMonth(Cursor& cursor) {
  for (int month = 1; month <= 12; ++month) {
    for (const std::string_view name : kMonths[month - 1]) {
      if (!cursor.Accept(name)) continue;
      cursor.Accept(".");
      return month;
    }
  }
  return 0;
}

absl::Status SetDate(MomentSpec& spec, int year, int month, int day) {
  if (year < 1) return InvalidAt(spec.column, "years are 0001 to 9999");
  if (month < 1 || month > 12) {
    return InvalidAt(spec.column, absl::StrCat("there is no month ", month));
  }
  if (day < 1 || day > DaysInMonth(year, month)) {
    return InvalidAt(spec.column, absl::StrCat("there is no day ", day, " in that month"));
  }
  spec.base = Base::kDate;
  spec.year = year;
  spec.month = month;
  spec.day = day;
  return absl::OkStatus();
}

absl::Status SetMonthDay(MomentSpec& spec, int month, int day) {
  constexpr int kAnyLeapYear = 2000;
  if (absl::Status status = SetDate(spec, kAnyLeapYear, month, day); !status.ok()) return status;
  spec.base = Base::kMonthDay;
  return absl::OkStatus();
}

// The day of the month in words such as "25th"; 0 when there is none.
int AcceptDayNumber(Cursor& cursor) {
  const size_t digits = cursor.CountDigits();
  if (digits < 1 || digits > 2) return 0;
  size_t length = digits;
  for (const std::string_view ending : {"st", "nd", "rd", "th"}) {
    Cursor after = cursor;
    after.AdvanceWithin(digits);
    if (MatchPhrase(after.rest(), ending) > 0) length += ending.size();
  }
  if (length == digits && (IsLetter(cursor.Peek(digits)) || cursor.Peek(digits) == ':')) return 0;
  const int day = cursor.Digits(0, digits);
  cursor.Advance(length);
  return day;
}

// A four-digit year, perhaps after a comma.
int AcceptYear(Cursor& cursor) {
  Cursor after = cursor;
  after.Accept(",");
  if (after.CountDigits() != 4 || after.Peek(4) == ':') return 0;
  const int year = after.Digits(0, 4);
  after.Advance(4);
  cursor = after;
  return year;
}

absl::Status SetNamedMonth(Cursor& cursor, MomentSpec& spec, int month, int day) {
  const int year = AcceptYear(cursor);
  return year > 0 ? SetDate(spec, year, month, day) : SetMonthDay(spec, month, day);
}

// 25/12/2027 and 12/25/2027 when they are not also each other.
absl::Status SetWithoutOrder(MomentSpec& spec, int first, int second, int year) {
  if (first > 12) return SetDate(spec, year, second, first);
  if (second > 12 || first == second) return SetDate(spec, year, first, second);
  return InvalidAt(spec.column, "day and month cannot be told apart; write the date as YYYY-MM-DD");
}

// Dates of digits. False, and the cursor unmoved, when there is none.
absl::StatusOr<bool> ParseNumericDate(Cursor& cursor, MomentSpec& spec) {
  const size_t a = cursor.CountDigits();
  const char separator = cursor.Peek(a);
  if (a == 0 || (separator != '-' && separator != '/')) return false;
  const size_t b = cursor.CountDigits(a + 1);
  if (b < 1 || b > 2) return false;
  const int second = cursor.Digits(a + 1, b);
  const size_t two = a + 1 + b;
  const size_t c = cursor.Peek(two) == separator ? cursor.CountDigits(two + 1) : 0;
  const size_t three = two + 1 + c;
  absl::Status status = absl::OkStatus();
  size_t length = three;
  if (a == 4 && c >= 1 && c <= 2) {
    status = SetDate(spec, cursor.Digits(0, 4), second, cursor.Digits(two + 1, c));
  } else if (a <= 2 && c == 4) {
    status = SetWithoutOrder(spec, cursor.Digits(0, a), second, cursor.Digits(two + 1, 4));
  } else if (a <= 2 && c == 0 && separator == '-') {
    status = SetMonthDay(spec, cursor.Digits(0, a), second);
    length = two;
  } else {
    return InvalidAt(spec.column, "this is not a date; write it as YYYY-MM-DD");
  }
  if (!status.ok()) return status;
  const bool time_follows =
      absl::ascii_toupper(static_cast<unsigned char>(cursor.Peek(length))) == 'T' &&
      cursor.CountDigits(length + 1) > 0;
  if (time_follows) {
    cursor.Advance(length + 1);
  } else if (IsLetter(cursor.Peek(length)) || cursor.CountDigits(length) > 0) {
    return InvalidAt(spec.column, "this is not a date; write it as YYYY-MM-DD");
  } else {
    cursor.Advance(length);
  }
  return true;
}

absl::StatusOr<bool> ParseDate(Cursor& cursor, MomentSpec& spec) {
  const absl::StatusOr<bool> numeric = ParseNumericDate(cursor, spec);
  if (!numeric.ok() || *numeric) return numeric;
  for (const NamedDay& named : kNamedDays) {
    if (!cursor.Accept(named.name)) continue;
    if (absl::Status status = SetNamedMonth(cursor, spec, named.month, named.day); !status.ok()) {
      return status;
    }
    return true;
  }
  for (const auto& [name, weekday] : kWeekdays) {
    if (!cursor.Accept(name)) continue;
    spec.base = Base::kWeekday;
    spec.weekday = weekday;
    return true;
  }
  Cursor after = cursor;
  int day = AcceptDayNumber(after);
  if (day > 0) after.Accept("of");
  const int month = AcceptMonth(after);
  if (month == 0) return false;
  if (day == 0) day = AcceptDayNumber(after);
  if (day == 0) return InvalidAt(spec.column, "the day of the month is missing");
  if (absl::Status status = SetNamedMonth(after, spec, month, day); !status.ok()) return status;
  cursor = after;
  return true;
}

// nullopt when no time of day comes next.
absl::StatusOr<std::optional<TimeOfDay>> ParseTimeOfDay(Cursor& cursor) {
  if (cursor.Accept("noon")) return TimeOfDay{.hour = 12};
  if (cursor.Accept("midnight")) return TimeOfDay{};
  const int column = cursor.column();
  Cursor after = cursor;
  const size_t digits = after.CountDigits();
  if (digits < 1 || digits > 2) return std::nullopt;
  TimeOfDay time{.hour = after.Digits(0, digits)};
  after.AdvanceWithin(digits);
  const bool colon = after.Peek() == ':' && after.CountDigits(1) == 2;
  if (colon) {
    time.minute = after.Digits(1, 2);
    after.AdvanceWithin(3);
    if (after.Peek() == ':' && after.CountDigits(1) == 2) {
      time.second = after.Digits(1, 2);
      after.AdvanceWithin(3);
    }
  }
  after.Advance(0);
  const bool am = after.AcceptAny({"am", "a.m."});
  const bool pm = !am && after.AcceptAny({"pm", "p.m."});
  if (!colon && !am && !pm) return std::nullopt;
  if (((am || pm) && (time.hour < 1 || time.hour > 12)) || time.hour > 23 || time.minute > 59 ||
      time.second > 59) {
    return InvalidAt(column, "this is not a time of day; write it as 14:30 or 2:30 pm");
  }
  if (am || pm) time.hour = time.hour % 12 + (pm ? 12 : 0);
  cursor = after;
  return time;
}

// The offset of an ISO 8601 time: "+05:30", "Z".
absl::Status ParseOffset(Cursor& cursor, MomentSpec& spec) {
  const bool sign = cursor.Peek() == '+' || cursor.Peek() == '-';
  const bool offset =
      sign && cursor.CountDigits(1) == 2 && cursor.Peek(3) == ':' && cursor.CountDigits(4) == 2;
  const size_t length = offset ? 6 : MatchPhrase(cursor.rest(), "z");
  if (length == 0) return absl::OkStatus();
  absl::StatusOr<Zone> zone = FindZone(cursor.rest().substr(0, length));
  if (!zone.ok()) return AtColumn(cursor.column(), zone.status());
  spec.zone = *std::move(zone);
  cursor.Advance(length);
  return absl::OkStatus();
}

absl::Status ParseShifts(Cursor& cursor, std::vector<Shift>& shifts) {
  for (;;) {
    Cursor after = cursor;
    const bool plus = after.AcceptAny({"+", "plus"});
    const bool minus = !plus && after.AcceptAny({"-", "−", "minus"});
    if (!plus && !minus) return absl::OkStatus();
    const int column = after.column();
    absl::StatusOr<std::optional<Shift>> amount = ParseAmount(after);
    if (!amount.ok()) return amount.status();
    if (!amount->has_value()) {
      return InvalidAt(column, "expected an amount such as \"90 days\" or \"36 hours\"");
    }
    if (shifts.size() == kMaxShifts) {
      return absl::ResourceExhaustedError(
          absl::StrCat("more than the limit of ", kMaxShifts, " amounts added or taken off"));
    }
    shifts.push_back(
        {.amount = minus ? -(*amount)->amount : (*amount)->amount, .unit = (*amount)->unit});
    cursor = after;
  }
}

}  // namespace

std::optional<Unit> ParseUnit(Cursor& cursor) {
  for (const auto& [name, unit] : kUnits) {
    if (cursor.Accept(name)) return unit;
  }
  return std::nullopt;
}

absl::StatusOr<int64_t> ParseInteger(Cursor& cursor) {
  constexpr size_t kMaxDigits = 12;
  const bool negative = cursor.Peek() == '-';
  const size_t sign = negative ? 1 : 0;
  const size_t digits = cursor.CountDigits(sign);
  if (digits < 1 || digits > kMaxDigits || cursor.Peek(sign + digits) == '.') {
    return InvalidAt(cursor.column(), "expected a whole number of at most 12 digits");
  }
  int64_t value = 0;
  for (size_t i = 0; i < digits; ++i) value = value * 10 + (cursor.Peek(sign + i) - '0');
  cursor.Advance(sign + digits);
  return negative ? -value : value;
}

absl::StatusOr<std::optional<Shift>> ParseAmount(Cursor& cursor) {
  Cursor after = cursor;
  Shift shift;
  if (after.AcceptAny({"a", "an", "one"})) {
    shift.amount = 1;
  } else if (after.CountDigits() > 0) {
    const absl::StatusOr<int64_t> amount = ParseInteger(after);
    if (!amount.ok()) return amount.status();
    shift.amount = *amount;
  } else {
    return std::nullopt;
  }
  const std::optional<Unit> unit = ParseUnit(after);
  if (!unit.has_value()) return std::nullopt;
  shift.unit = *unit;
  cursor = after;
  return shift;
}

absl::StatusOr<MomentSpec> ParseMoment(Cursor& cursor) {
  MomentSpec spec;
  spec.column = cursor.column();
  Cursor after = cursor;
  bool may_have_time = true;
  if (after.AcceptAny({"right now", "now"})) {
    may_have_time = false;
  } else if (after.Accept("today")) {
    spec.base = Base::kToday;
  } else if (after.Accept("tomorrow")) {
    spec.base = Base::kToday;
    spec.days = 1;
  } else if (after.Accept("yesterday")) {
    spec.base = Base::kToday;
    spec.days = -1;
  } else if (after.Accept("@")) {
    const absl::StatusOr<int64_t> seconds = ParseInteger(after);
    if (!seconds.ok()) return seconds.status();
    spec.base = Base::kUnix;
    spec.seconds = *seconds;
    may_have_time = false;
  } else {
    const absl::StatusOr<bool> date = ParseDate(after, spec);
    if (!date.ok()) return date.status();
    if (!*date) {
      const absl::StatusOr<std::optional<TimeOfDay>> time = ParseTimeOfDay(after);
      if (!time.ok()) return time.status();
      if (!time->has_value()) {
        return InvalidAt(spec.column,
                         absl::StrCat("expected a date or time such as 2027-03-01, \"25 December\" "
                                      "or \"now\", found ",
                                      after.AtEnd() ? "the end" : Quoted(after.rest())));
      }
      spec.base = Base::kToday;
      spec.time = **time;
      may_have_time = false;
    }
  }
  if (may_have_time) {
    Cursor behind = after;
    behind.AcceptAny({"at", ","});
    const absl::StatusOr<std::optional<TimeOfDay>> time = ParseTimeOfDay(behind);
    if (!time.ok()) return time.status();
    if (time->has_value()) {
      spec.time = **time;
      after = behind;
    }
  }
  if (spec.time.has_value()) {
    if (absl::Status status = ParseOffset(after, spec); !status.ok()) return status;
  }
  if (absl::Status status = ParseShifts(after, spec.shifts); !status.ok()) return status;
  cursor = after;
  return spec;
}

}  // namespace octogate::gateway::clock
