#include "gateway/tools/clock/request.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gateway/tools/clock/cursor.h"
#include "gateway/tools/clock/difference.h"
#include "gateway/tools/clock/moment_parser.h"
#include "gateway/tools/request_text.h"

namespace octogate::gateway::clock {
namespace {

using Answer = absl::StatusOr<std::string>;
using Base = MomentSpec::Base;

constexpr size_t kMaxRequestBytes = 1024;

constexpr std::string_view kPrefixes[] = {
    "what is", "what's",   "whats",     "what was",  "what will be", "what",
    "when is", "when was", "how many",  "tell me",   "give me",      "show me",
    "please",  "can you",  "could you", "calculate", "compute",      "convert",
    "the",     "current",  "which",     "on which",  "on what",
};
constexpr std::string_view kSuffixes[] = {"?",         ".",       "!",       "please",
                                          "right now", "fall on", "falls on"};

constexpr std::string_view kHelp =
    "write for example \"time in Tokyo\", \"2026-03-01 14:30 in New York to Tokyo\", \"days until "
    "25 December\", \"today + 90 days\" or \"weekday of 1969-07-20\"";

class Request {
 public:
  Request(std::string_view request, std::string_view text, const Reading& reading)
      : cursor_(request, text), reading_(reading) {}

  Answer Run() {
    if (cursor_.AtEnd()) {
      return absl::InvalidArgumentError(
          absl::StrCat("nothing to answer; ", absl::string_view(kHelp.data(), kHelp.size())));
    }
    if (std::optional<Answer> answer = TryDifference()) return *std::move(answer);
    if (std::optional<Answer> answer = TryUnitQuestion()) return *std::move(answer);
    if (std::optional<Answer> answer = TryCalendarQuestion()) return *std::move(answer);
    if (std::optional<Answer> answer = TryUnixTime()) return *std::move(answer);
    if (std::optional<Answer> answer = TryTimeInZone()) return *std::move(answer);
    if (std::optional<Answer> answer = TryAmount()) return *std::move(answer);
    return Convert();
  }

 private:
  absl::Status NotUnderstood() const {
    return InvalidAt(cursor_.column(),
                     absl::StrCat(Quoted(cursor_.rest()), " is not understood here; ",
                                  absl::string_view(kHelp.data(), kHelp.size())));
  }

  // The answer, when the whole request was used.
  Answer Finish(std::string answer) const {
    if (!cursor_.AtEnd()) return NotUnderstood();
    return answer;
  }

  // The text up to a word that cannot be part of a zone's name.
  absl::StatusOr<Zone> ParseZone() {
    std::string_view text = cursor_.rest();
    for (const std::string_view end :
         {" to ", " into ", " and ", " in ", " + ", " - ", " plus ", " minus "}) {
      for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] == ' ' && !end.empty() && AsciiStartsWith(text.substr(i), end)) {
          text = text.substr(0, i);
        }
      }
    }
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
    absl::StatusOr<Zone> zone = FindZone(text);
    if (!zone.ok()) return AtColumn(cursor_.column(), zone.status());
    cursor_.Advance(text.size());
    return zone;
  }

  static bool AsciiStartsWith(std::string_view text, std::string_view lower) {
    if (text.size() < lower.size()) return false;
    return std::equal(lower.begin(), lower.end(), text.begin(), [](char a, char b) {
      return a == (b >= 'A' && b <= 'Z' ? static_cast<char>(b - 'A' + 'a') : b);
    });
  }

  // A point in time with the zone it names, if any: "3pm", "3pm Tokyo", "3pm in Tokyo".
  absl::StatusOr<MomentSpec> ParseOperand() {
    absl::StatusOr<MomentSpec> spec = ParseMoment(cursor_);
    if (!spec.ok() || cursor_.AtEnd() || spec->zone.has_value()) return spec;
    const bool named = cursor_.AcceptAny({"in", "from"});
    if (!named && !spec->time.has_value()) return spec;
    if (!named && StartsWithConnective()) return spec;
    absl::StatusOr<Zone> zone = ParseZone();
    if (!zone.ok()) return zone.status();
    spec->zone = *std::move(zone);
    return spec;
  }

  bool StartsWithConnective() const {
    Cursor after = cursor_;
    return after.AcceptAny({"to", "into", "and", "until", "till", ",", "+", "-", "plus", "minus"});
  }

  static std::string WithNote(std::string text, const Moment& moment) {
    if (!moment.note.empty()) absl::StrAppend(&text, "; ", moment.note);
    return text;
  }

  // M in ZONE to ZONE and everything shorter.
  Answer Convert() {
    absl::StatusOr<MomentSpec> spec = ParseOperand();
    if (!spec.ok()) return spec.status();
    std::optional<Zone> target;
    if (cursor_.AcceptAny({"to", "into", "in"})) {
      absl::StatusOr<Zone> zone = ParseZone();
      if (!zone.ok()) return zone.status();
      target = *std::move(zone);
    }
    if (!cursor_.AtEnd()) return NotUnderstood();
    const bool instant = spec->base == Base::kNow || spec->base == Base::kUnix;
    if (instant && !spec->zone.has_value()) std::swap(spec->zone, target);
    const absl::StatusOr<Moment> moment = Resolve(*spec, reading_);
    if (!moment.ok()) return moment.status();
    if (!target.has_value() && moment->has_time && !instant && spec->zone.has_value()) {
      target = reading_.default_zone;
    }
    if (!target.has_value() || (!instant && target->name == moment->zone.name)) {
      const bool relative = spec->base == Base::kToday && !moment->has_time;
      const std::string where = relative ? absl::StrCat(" (", moment->zone.name, ")") : "";
      return WithNote(Format(*moment) + where, *moment);
    }
    if (!moment->has_time) {
      return InvalidAt(spec->column, "a date alone is not converted; add a time of day");
    }
    const Moment converted = InZone(moment->time, *target);
    if (converted.local.year() < 1 || converted.local.year() > 9999) {
      return AtColumn(spec->column,
                      absl::OutOfRangeError("the result lies outside the years 1 to 9999"));
    }
    std::string text = WithNote(absl::StrCat(Format(*moment), " is ", Format(converted)), *moment);
    if (moment->other_time.has_value()) {
      absl::StrAppend(&text, ", which is ", Format(InZone(*moment->other_time, *target)));
    }
    return text;
  }

  std::optional<Answer> TryDifference() {
    if (!cursor_.AcceptAny({"time difference between", "time difference from",
                            "difference in time between", "difference between", "time between",
                            "time from"})) {
      return std::nullopt;
    }
    const Cursor start = cursor_;
    const absl::StatusOr<Zone> first = ParseZone();
    if (first.ok() && cursor_.AcceptAny({"and", "to"})) {
      const absl::StatusOr<Zone> second = ParseZone();
      if (!second.ok()) return second.status();
      return Finish(DescribeZoneDifference(*first, *second, reading_.now));
    }
    cursor_ = start;
    return Between(std::nullopt);
  }

  Answer Between(std::optional<Unit> unit) {
    const absl::StatusOr<MomentSpec> first = ParseOperand();
    if (!first.ok()) return first.status();
    if (!cursor_.AcceptAny({"and", "to", "until", "till"})) {
      return InvalidAt(cursor_.column(), "expected \"and\" or \"to\" and a second date");
    }
    absl::StatusOr<MomentSpec> second = ParseOperand();
    if (!second.ok()) return second.status();
    const absl::StatusOr<Moment> from = Resolve(*first, reading_);
    if (!from.ok()) return from.status();
    // A second date without a year is the next one after the first.
    YearChoice choice;
    if (second->base == Base::kMonthDay || second->base == Base::kWeekday) {
      choice.day = absl::CivilDay(from->local);
    }
    const absl::StatusOr<Moment> to = Resolve(*second, reading_, choice);
    if (!to.ok()) return to.status();
    return Finish(DescribeDifference(unit, *from, *to));
  }

  // From now or today to a later point, or from an earlier point to now.
  Answer FromNow(std::optional<Unit> unit, YearChoice::Direction direction) {
    const absl::StatusOr<MomentSpec> spec = ParseOperand();
    if (!spec.ok()) return spec.status();
    const absl::StatusOr<Moment> moment = Resolve(*spec, reading_, {.direction = direction});
    if (!moment.ok()) return moment.status();
    const bool by_clock = moment->has_time || unit == Unit::kHours || unit == Unit::kMinutes ||
                          unit == Unit::kSeconds;
    const absl::StatusOr<Moment> here =
        Resolve({.base = by_clock ? Base::kNow : Base::kToday, .zone = moment->zone}, reading_);
    if (!here.ok()) return here.status();
    return Finish(direction == YearChoice::Direction::kNext
                      ? DescribeDifference(unit, *here, *moment)
                      : DescribeDifference(unit, *moment, *here));
  }

  // UNIT until|since|between|from.
  std::optional<Answer> TryUnitQuestion() {
    Cursor after = cursor_;
    std::optional<Unit> unit;
    if (!after.AcceptAny({"how long", "time"})) {
      unit = ParseUnit(after);
      if (!unit.has_value()) return std::nullopt;
    }
    after.AcceptAny({"are there", "are left", "is it", "has it been", "have passed", "left",
                     "remaining", "remain", "are", "were there"});
    const bool until = after.AcceptAny({"until", "till", "to", "before"});
    const bool since = !until && after.AcceptAny({"since", "ago was", "ago is"});
    const bool between = !until && !since && after.AcceptAny({"between", "from"});
    if (!until && !since && !between) return std::nullopt;
    cursor_ = after;
    if (between) return Between(unit);
    return FromNow(unit, until ? YearChoice::Direction::kNext : YearChoice::Direction::kPrevious);
  }

  // The day that a question is about: today when it names none.
  absl::StatusOr<Moment> ParseDay() {
    cursor_.AcceptAny({"of", "on", "for", "is it", "is", "was it", "was", "will be", "does", "do"});
    MomentSpec spec{.base = Base::kToday, .column = cursor_.column()};
    if (cursor_.Accept("in")) {
      absl::StatusOr<Zone> zone = ParseZone();
      if (!zone.ok()) return zone.status();
      spec.zone = *std::move(zone);
    } else if (!cursor_.AtEnd()) {
      absl::StatusOr<MomentSpec> written = ParseOperand();
      if (!written.ok()) return written.status();
      spec = *std::move(written);
    }
    return Resolve(spec, reading_);
  }

  std::optional<Answer> TryCalendarQuestion() {
    if (cursor_.AcceptAny({"day of the year", "day of year", "day number"})) {
      const absl::StatusOr<Moment> day = ParseDay();
      if (!day.ok()) return day.status();
      const absl::CivilDay civil(day->local);
      return Finish(absl::StrCat(FormatDay(civil), " is day ", absl::GetYearDay(civil), " of ",
                                 IsLeapYear(civil.year()) ? 366 : 365));
    }
    if (cursor_.AcceptAny({"day of the week", "day of week", "weekday", "day"})) {
      const absl::StatusOr<Moment> day = ParseDay();
      if (!day.ok()) return day.status();
      return Finish(FormatDay(absl::CivilDay(day->local)));
    }
    if (cursor_.AcceptAny(
            {"iso week number", "iso week", "week number", "calendar week", "week"})) {
      const absl::StatusOr<Moment> day = ParseDay();
      if (!day.ok()) return day.status();
      const absl::CivilDay civil(day->local);
      const IsoWeek week = IsoWeekOf(civil);
      return Finish(absl::StrFormat("%s is in week %d of %d (ISO 8601)", FormatDay(civil),
                                    week.week, week.year));
    }
    Cursor after = cursor_;
    after.Accept("is");
    const size_t digits = after.CountDigits();
    if (digits < 1 || digits > 4) return std::nullopt;
    const int year = after.Digits(0, digits);
    after.Advance(digits);
    if (!after.Accept("a leap year")) return std::nullopt;
    cursor_ = after;
    if (year < 1) return absl::OutOfRangeError("years are 1 to 9999");
    return Finish(absl::StrCat(IsLeapYear(year) ? "yes" : "no", ": ", year, " has ",
                               IsLeapYear(year) ? 366 : 365, " days"));
  }

  std::optional<Answer> TryUnixTime() {
    if (!cursor_.AcceptAny(
            {"unix timestamp", "unix time", "unix", "timestamp", "epoch time", "epoch"})) {
      return std::nullopt;
    }
    cursor_.AcceptAny({"of", "for", "at", "is"});
    const size_t digits = cursor_.CountDigits(cursor_.Peek() == '-' ? 1 : 0);
    const char behind = cursor_.Peek(digits + (cursor_.Peek() == '-' ? 1 : 0));
    const bool number = digits > 0 && (behind == '\0' || behind == ' ');
    Cursor after = cursor_;
    MomentSpec spec{.base = Base::kNow, .column = cursor_.column()};
    if (number) {
      const absl::StatusOr<int64_t> seconds = ParseInteger(after);
      if (!seconds.ok()) return seconds.status();
      if (after.AtEnd() || MatchPhrase(after.rest(), "in") > 0 ||
          MatchPhrase(after.rest(), "to") > 0) {
        spec.base = Base::kUnix;
        spec.seconds = *seconds;
        cursor_ = after;
        if (cursor_.AcceptAny({"in", "to"})) {
          absl::StatusOr<Zone> zone = ParseZone();
          if (!zone.ok()) return zone.status();
          spec.zone = *std::move(zone);
        }
        const absl::StatusOr<Moment> moment = Resolve(spec, reading_);
        if (!moment.ok()) return moment.status();
        return Finish(Format(*moment));
      }
    }
    if (!cursor_.AtEnd()) {
      absl::StatusOr<MomentSpec> written = ParseOperand();
      if (!written.ok()) return written.status();
      spec = *std::move(written);
    }
    const absl::StatusOr<Moment> moment = Resolve(spec, reading_);
    if (!moment.ok()) return moment.status();
    // A date means its first instant.
    const Moment instant = InZone(moment->time, moment->zone);
    return Finish(WithNote(
        absl::StrCat(absl::ToUnixSeconds(moment->time), " (", Format(instant), ")"), *moment));
  }

  // "time is it in Tokyo", "date", "local time in Paris".
  std::optional<Answer> TryTimeInZone() {
    MomentSpec spec{.column = cursor_.column()};
    if (cursor_.AcceptAny({"today's date", "date"})) {
      spec.base = Base::kToday;
    } else if (!cursor_.AcceptAny({"local time", "time"})) {
      return std::nullopt;
    }
    cursor_.AcceptAny({"is it", "is", "was", "will it be", "will be"});
    Cursor after = cursor_;
    after.AcceptAny({"now", "right now", "today"});
    if (!after.AtEnd()) {
      if (!after.AcceptAny({"in", "at"})) return std::nullopt;  // "date is 90 days from now"
      Cursor amount = after;
      const absl::StatusOr<std::optional<Shift>> shift = ParseAmount(amount);
      if (shift.ok() && shift->has_value()) return std::nullopt;  // "time will it be in 2 hours"
      cursor_ = after;
      absl::StatusOr<Zone> zone = ParseZone();
      if (!zone.ok()) return zone.status();
      spec.zone = *std::move(zone);
      after = cursor_;
    }
    cursor_ = after;
    const absl::StatusOr<Moment> moment = Resolve(spec, reading_);
    if (!moment.ok()) return moment.status();
    return Finish(moment->has_time ? Format(*moment)
                                   : absl::StrCat(Format(*moment), " (", moment->zone.name, ")"));
  }

  // "90 days from now", "2 weeks ago", "3 months after M", "in 36 hours".
  std::optional<Answer> TryAmount() {
    Cursor after = cursor_;
    const bool in = after.Accept("in");
    std::vector<Shift> shifts;
    do {
      const absl::StatusOr<std::optional<Shift>> shift = ParseAmount(after);
      if (!shift.ok() || !shift->has_value()) return std::nullopt;
      shifts.push_back(**shift);
    } while (after.AcceptAny({"and", ","}) && shifts.size() < 8);
    const bool ago = !in && after.Accept("ago");
    const bool now = in || ago || after.AcceptAny({"from now", "from today", "hence"});
    const bool before = !now && after.Accept("before");
    if (!now && !before && !after.AcceptAny({"after", "from", "since"})) return std::nullopt;
    cursor_ = after;
    const bool by_clock = std::any_of(shifts.begin(), shifts.end(), [](const Shift& shift) {
      return shift.unit >= Unit::kHours;
    });
    MomentSpec spec{.base = by_clock ? Base::kNow : Base::kToday, .column = cursor_.column()};
    if (now && cursor_.Accept("in")) {
      absl::StatusOr<Zone> zone = ParseZone();
      if (!zone.ok()) return zone.status();
      spec.zone = *std::move(zone);
    } else if (!now) {
      absl::StatusOr<MomentSpec> written = ParseOperand();
      if (!written.ok()) return written.status();
      spec = *std::move(written);
    }
    for (const Shift& shift : shifts) {
      spec.shifts.push_back(
          {.amount = ago || before ? -shift.amount : shift.amount, .unit = shift.unit});
    }
    const absl::StatusOr<Moment> moment = Resolve(spec, reading_);
    if (!moment.ok()) return moment.status();
    return Finish(WithNote(Format(*moment), *moment));
  }

  Cursor cursor_;
  const Reading& reading_;
};

}  // namespace

absl::StatusOr<std::string> AnswerRequest(std::string_view request, const Reading& reading) {
  if (absl::Status status = CheckRequestText(request, kMaxRequestBytes); !status.ok()) {
    return status;
  }
  return Request(request, StripPhrases(request, kPrefixes, kSuffixes), reading).Run();
}

}  // namespace octogate::gateway::clock
