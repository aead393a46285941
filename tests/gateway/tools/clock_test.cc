#include "gateway/tools/clock/clock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "gateway/tools/clock/moment.h"
#include "gateway/tools/clock/zones.h"

namespace octogate::gateway {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Saturday, 2027-02-27 21:30:00 UTC.
const absl::Time kNow =
    absl::FromCivil(absl::CivilSecond(2027, 2, 27, 21, 30, 0), absl::UTCTimeZone());

absl::StatusOr<std::string> Ask(const std::string& request, const ToolParameters& parameters = {},
                                absl::Time now = kNow) {
  const auto tool = MakeTool("clock", parameters);
  if (!tool.ok()) return tool.status();
  ToolContext context;
  context.now = [now] { return now; };
  return (*tool)->Run(request, context);
}

std::string Answer(const std::string& request) {
  const auto answer = Ask(request);
  return answer.ok() ? *answer : answer.status().ToString();
}

TEST(ClockTest, TellsTheTime) {
  EXPECT_EQ(Answer("now"), "Saturday, 2027-02-27 21:30:00 UTC");
  const std::string tokyo = "Sunday, 2027-02-28 06:30:00 JST (Asia/Tokyo, UTC+09:00)";
  for (const char* request :
       {"now in Tokyo", "time in Asia/Tokyo", "What time is it in Tokyo?",
        "what’s the time in tokyo", "what is the current time in TOKYO right now?", "now to Tokyo",
        "tell me the time in tokyo please"}) {
    EXPECT_EQ(Answer(request), tokyo) << request;
  }
  EXPECT_EQ(Answer("today"), "Saturday, 2027-02-27 (UTC)");
  EXPECT_EQ(Answer("what's the date in Auckland?"), "Sunday, 2027-02-28 (Pacific/Auckland)");
  EXPECT_EQ(Answer("what day is it today?"), "Saturday, 2027-02-27");
  EXPECT_EQ(*Ask("now", {{"time_zone", "New York"}}),
            "Saturday, 2027-02-27 16:30:00 EST (America/New_York, UTC-05:00)");
}

TEST(ClockTest, ConvertsBetweenZones) {
  const std::string converted =
      "Sunday, 2026-03-01 14:30:00 EST (America/New_York, UTC-05:00) is Monday, 2026-03-02 "
      "04:30:00 JST (Asia/Tokyo, UTC+09:00)";
  for (const char* request :
       {"2026-03-01 14:30 in America/New_York to Asia/Tokyo",
        "2026-03-01 2:30 pm New York to Tokyo", "convert 1 March 2026 14:30 from New York to Tokyo",
        "Mar 1, 2026 at 14:30 new york time in tokyo"}) {
    EXPECT_EQ(Answer(request), converted) << request;
  }
  EXPECT_EQ(Answer("2026-03-01T12:00:00Z in Kathmandu"),
            "Sunday, 2026-03-01 12:00:00 UTC is Sunday, 2026-03-01 17:45:00 (Asia/Kathmandu, "
            "UTC+05:45)");
  EXPECT_EQ(Answer("2026-03-01 12:00+05:30 to UTC"),
            "Sunday, 2026-03-01 12:00:00 UTC+05:30 is Sunday, 2026-03-01 06:30:00 UTC");
  EXPECT_EQ(Answer("3pm in Tokyo"),
            "Sunday, 2027-02-28 15:00:00 JST (Asia/Tokyo, UTC+09:00) is Sunday, 2027-02-28 "
            "06:00:00 UTC");
  EXPECT_EQ(Answer("time difference between Tokyo and London"),
            "Asia/Tokyo is 9 h ahead of Europe/London now (UTC+09:00 and UTC+00:00)");
  EXPECT_EQ(Answer("time difference between New York and UTC+5:30"),
            "America/New_York is 10 h 30 min behind UTC+05:30 now (UTC-05:00 and UTC+05:30)");
}

TEST(ClockTest, SaysThatALocalTimeIsSkipped) {
  EXPECT_EQ(Answer("2026-03-08 02:30 in New York to UTC"),
            "Sunday, 2026-03-08 03:30:00 EDT (America/New_York, UTC-04:00) is Sunday, 2026-03-08 "
            "07:30:00 UTC; 02:30:00 does not exist on 2026-03-08 in America/New_York because "
            "clocks are set forward; this is the time by the clock before the change");
  // Samoa left out 30 December 2011.
  EXPECT_THAT(Answer("2011-12-30 12:00 in Apia to UTC"), HasSubstr("does not exist"));
}

TEST(ClockTest, SaysThatALocalTimeOccursTwice) {
  EXPECT_THAT(Answer("2026-11-01 01:30 in New York to UTC"),
              AllOf(HasSubstr("EDT"), HasSubstr("05:30:00 UTC; 01:30:00 occurs twice"),
                    HasSubstr("60 min later"), HasSubstr("06:30:00 UTC")));
  EXPECT_THAT(Answer("2027-04-04 01:45 in Australia/Lord_Howe to UTC"),
              AllOf(HasSubstr("occurs twice"), HasSubstr("30 min later")));
}

TEST(ClockTest, CountsDays) {
  EXPECT_THAT(Answer("days until 2027-03-01"), StartsWith("2 days ("));
  EXPECT_THAT(Answer("How many days until Christmas?"),
              AllOf(StartsWith("301 days ("), HasSubstr("2027-12-25")));
  EXPECT_THAT(Answer("days since 20 July 1969"), StartsWith("21041 days ("));
  EXPECT_THAT(Answer("days between 2024-02-28 and 2024-03-01"), StartsWith("2 days ("));
  EXPECT_THAT(Answer("days between 2023-02-28 and 2023-03-01"), StartsWith("1 day ("));
  EXPECT_THAT(Answer("days from 1 March 2027 to 1 January 2027"), StartsWith("-59 days ("));
  EXPECT_THAT(Answer("weeks between 2026-01-01 and 2026-03-01"), StartsWith("8 weeks 3 days ("));
  EXPECT_THAT(Answer("months between 2026-01-31 and 2026-03-01"), StartsWith("1 month 1 day ("));
  EXPECT_THAT(Answer("years between 2020-02-29 and 2027-02-28"), StartsWith("7 years ("));
  EXPECT_THAT(Answer("how long until 2027-02-28 08:00"), StartsWith("10 h 30 min ("));
}

TEST(ClockTest, CountsTheTimeThatPassesAcrossClockChanges) {
  EXPECT_THAT(*Ask("hours between 2026-03-08 and 2026-03-09", {{"time_zone", "New York"}}),
              StartsWith("23 h ("));
  EXPECT_THAT(Answer("hours between 2026-10-31 12:00 in New York and 2026-11-01 12:00 in New York"),
              StartsWith("25 h ("));
  EXPECT_THAT(Answer("time between 2026-01-01 09:00 in Tokyo and 2026-01-01 09:00 in London"),
              StartsWith("9 h ("));
}

TEST(ClockTest, ADayWithoutAYearIsTheNextOrForSinceTheLast) {
  EXPECT_EQ(Answer("02-27"), "Saturday, 2027-02-27");
  EXPECT_EQ(Answer("02-26"), "Saturday, 2028-02-26");
  EXPECT_EQ(Answer("29 Feb"), "Tuesday, 2028-02-29");
  EXPECT_EQ(Answer("Friday"), "Friday, 2027-03-05");
  EXPECT_THAT(Answer("days since 03-01"), HasSubstr("from Sunday, 2026-03-01"));
  EXPECT_THAT(Answer("days between 25 Dec and 3 Jan"), StartsWith("9 days ("));
}

TEST(ClockTest, MovesDates) {
  EXPECT_EQ(Answer("2026-03-01 + 90 days"), "Saturday, 2026-05-30");
  EXPECT_EQ(Answer("today - 2 weeks"), "Saturday, 2027-02-13 (UTC)");
  EXPECT_EQ(Answer("now + 36 hours"), "Monday, 2027-03-01 09:30:00 UTC");
  EXPECT_EQ(Answer("2027-01-31 + 1 month"), "Sunday, 2027-02-28");
  EXPECT_EQ(Answer("2028-02-29 + 1 year"), "Wednesday, 2029-02-28");
  EXPECT_EQ(Answer("2028-02-29 - 4 years"), "Thursday, 2024-02-29");
  EXPECT_EQ(Answer("2026-03-31 - 1 month + 1 day"), "Sunday, 2026-03-01");
  EXPECT_EQ(Answer("What date is 90 days from today?"), "Friday, 2027-05-28");
  EXPECT_EQ(Answer("3 weeks ago"), "Saturday, 2027-02-06");
  EXPECT_EQ(Answer("2 weeks before 25 December 2027"), "Saturday, 2027-12-11");
  EXPECT_EQ(Answer("what time will it be in 90 minutes?"), "Saturday, 2027-02-27 23:00:00 UTC");
  // By the clock it is noon again; by elapsed hours it is not.
  EXPECT_THAT(Answer("2026-03-07 12:00 in New York"), HasSubstr("17:00:00 UTC"));
  EXPECT_EQ(*Ask("2026-03-07 12:00 + 1 day", {{"time_zone", "New York"}}),
            "Sunday, 2026-03-08 12:00:00 EDT (America/New_York, UTC-04:00)");
  EXPECT_EQ(*Ask("2026-03-07 12:00 + 24 hours", {{"time_zone", "New York"}}),
            "Sunday, 2026-03-08 13:00:00 EDT (America/New_York, UTC-04:00)");
}

TEST(ClockTest, KnowsTheCalendar) {
  EXPECT_EQ(Answer("what day of the week was 20 July 1969?"), "Sunday, 1969-07-20");
  EXPECT_EQ(Answer("weekday of 0001-01-01"), "Monday, 0001-01-01");
  EXPECT_EQ(Answer("weekday of 9999-12-31"), "Friday, 9999-12-31");
  EXPECT_EQ(Answer("week number of 2027-01-01"),
            "Friday, 2027-01-01 is in week 53 of 2026 (ISO 8601)");
  EXPECT_EQ(Answer("day of the year of 2028-12-31"), "Sunday, 2028-12-31 is day 366 of 366");
  EXPECT_EQ(Answer("is 1900 a leap year?"), "no: 1900 has 365 days");
  EXPECT_EQ(Answer("is 2000 a leap year?"), "yes: 2000 has 366 days");
}

TEST(ClockTest, ReadsAndWritesUnixTime) {
  EXPECT_EQ(Answer("timestamp 1700000000"), "Tuesday, 2023-11-14 22:13:20 UTC");
  EXPECT_EQ(Answer("@0"), "Thursday, 1970-01-01 00:00:00 UTC");
  EXPECT_EQ(Answer("unix time -86400 in Tokyo"),
            "Wednesday, 1969-12-31 09:00:00 JST (Asia/Tokyo, UTC+09:00)");
  EXPECT_EQ(Answer("unix timestamp of 2026-03-01 12:00"),
            "1772366400 (Sunday, 2026-03-01 12:00:00 UTC)");
  EXPECT_EQ(Answer("unix time"), "1803763800 (Saturday, 2027-02-27 21:30:00 UTC)");
}

TEST(ClockTest, ErrorsNameTheColumnAndTheMistake) {
  const std::vector<std::tuple<std::string, int, std::string>> cases = {
      {"time in Atlantis", 9, "\"Atlantis\" is not a known time zone"},
      {"time in", 8, "a time zone is missing"},
      {"time in Portland", 9, "America/Los_Angeles, America/New_York"},
      {"time in IST", 9, "Asia/Kolkata, Asia/Jerusalem, Europe/Dublin"},
      {"time in ../../etc/passwd", 9, "not a known time zone"},
      {"time in /etc/localtime", 9, "not a known time zone"},
      {"time in file:UTC", 9, "not a known time zone"},
      {"time in UTC+19", 9, "not a known time zone"},
      {"03/04/2027", 1, "cannot be told apart"},
      {"2027-02-29", 1, "no day 29"},
      {"2027-13-01", 1, "no month 13"},
      {"0000-01-01", 1, "years"},
      {"25:00", 1, "time of day"},
      {"13:00 pm", 1, "time of day"},
      {"days until December", 12, "day of the month is missing"},
      {"days between 2027-01-01", 24, "second date"},
      {"today + 1.5 days", 9, "whole number"},
      {"today + 9 bananas", 9, "amount"},
      {"what is the meaning of life", 13, "expected a date or time"},
      {"2027-01-01 banana", 12, "not understood"},
      {"2027-01-01 in Tokyo to London", 1, "add a time of day"},
  };
  for (const auto& [request, column, mistake] : cases) {
    EXPECT_EQ(Ask(request).status().code(), absl::StatusCode::kInvalidArgument) << request;
    EXPECT_THAT(Answer(request),
                AllOf(HasSubstr("column " + std::to_string(column) + ":"), HasSubstr(mistake)))
        << request;
  }
  EXPECT_EQ(Ask("").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Ask("now\xff").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Ask(std::string(5000, 'a')).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ClockTest, StaysWithinTheYears) {
  for (const char* request :
       {"9999-12-31 + 1 day", "0001-01-01 - 1 day", "now + 999999999999 years",
        "now - 999999999999 hours", "timestamp 999999999999", "today + 999999999999 weeks"}) {
    EXPECT_EQ(Ask(request).status().code(), absl::StatusCode::kOutOfRange) << request;
  }
  for (const absl::Time now : {absl::FromUnixSeconds(300'000'000'000), absl::InfinitePast()}) {
    EXPECT_EQ(Ask("now", {}, now).status().code(), absl::StatusCode::kOutOfRange);
  }
}

TEST(ClockTest, KeepsItsLimits) {
  const auto tool = MakeTool("clock", {});
  ASSERT_TRUE(tool.ok());
  ToolContext context;
  context.max_output_bytes = 10;
  EXPECT_EQ((*tool)->Run("now", context).status().code(), absl::StatusCode::kResourceExhausted);
  context.deadline = absl::InfinitePast();
  EXPECT_EQ((*tool)->Run("now", context).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(MakeTool("clock", {{"time_zone", "Atlantis"}}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ZonesTest, EveryNameInTheTablesIsAZone) {
  for (const std::string_view name : clock::IanaZoneNames()) {
    absl::TimeZone zone;
    EXPECT_TRUE(absl::LoadTimeZone(std::string(name), &zone)) << name;
  }
  for (const clock::Alias& alias : clock::ZoneAliases()) {
    const bool one = alias.zones.find(' ') == std::string_view::npos;
    const auto zone = clock::FindZone(alias.name);
    EXPECT_EQ(zone.ok(), one) << alias.name << ": " << zone.status();
  }
}

TEST(ZonesTest, OffsetsAreRead) {
  for (const auto& [text, name] :
       std::vector<std::pair<std::string, std::string>>{{"UTC", "UTC"},
                                                        {"z", "UTC"},
                                                        {"utc+5:30", "UTC+05:30"},
                                                        {"GMT-3", "UTC-03:00"},
                                                        {"+0530", "UTC+05:30"},
                                                        {"UTC +14", "UTC+14:00"},
                                                        {"-18:00", "UTC-18:00"}}) {
    const auto zone = clock::FindZone(text);
    ASSERT_TRUE(zone.ok()) << text << zone.status();
    EXPECT_EQ(zone->name, name);
  }
}

TEST(CalendarTest, DifferencesAddUpAgain) {
  // Every pair within four years from a month's end onwards, leap day included.
  const absl::CivilDay start(2023, 12, 28);
  for (absl::CivilDay first = start; first < start + 70; ++first) {
    for (absl::CivilDay second = first; second < first + 800; second += 3) {
      const clock::CalendarDifference d = clock::Difference(first, second);
      ASSERT_EQ(clock::AddMonths(first, d.months) + d.days, second) << first << " " << second;
      ASSERT_GT(clock::AddMonths(first, d.months + 1), second) << first << " " << second;
      ASSERT_GE(d.days, 0);
    }
  }
}

}  // namespace
}  // namespace octogate::gateway
