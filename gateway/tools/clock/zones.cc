#include "gateway/tools/clock/zones.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gateway/tools/request_text.h"

namespace octogate::gateway::clock {
namespace {

constexpr size_t kMaxNameBytes = 64;
constexpr int kMaxOffsetMinutes = 18 * 60;

// The form in which names are compared.
std::string Normalized(std::string_view text) {
  std::string key;
  for (const char c : text) {
    if (c == '.' || c == '\'') continue;
    const bool space = absl::ascii_isspace(static_cast<unsigned char>(c)) || c == '_' || c == '-';
    if (space && (key.empty() || key.back() == ' ')) continue;
    key.push_back(space ? ' ' : absl::ascii_tolower(static_cast<unsigned char>(c)));
  }
  while (!key.empty() && key.back() == ' ') key.pop_back();
  return key;
}

// "+5", "-03:30", "+0530" as seconds.
std::optional<int> ParseOffset(std::string_view text) {
  if (text.size() < 2 || (text[0] != '+' && text[0] != '-')) return std::nullopt;
  std::string hours;
  std::string minutes;
  bool colon = false;
  for (const char c : text.substr(1)) {
    if (c == ':' && !colon) {
      colon = true;
    } else if (!absl::ascii_isdigit(static_cast<unsigned char>(c))) {
      return std::nullopt;
    } else {
      (colon ? minutes : hours).push_back(c);
    }
  }
  if (!colon && hours.size() > 2) {
    minutes = hours.substr(hours.size() - 2);
    hours.resize(hours.size() - 2);
    colon = true;
  }
  if (hours.empty() || hours.size() > 2 || (colon && minutes.size() != 2)) return std::nullopt;
  const int minute = colon ? std::atoi(minutes.c_str()) : 0;
  const int total = std::atoi(hours.c_str()) * 60 + minute;
  if (minute > 59 || total > kMaxOffsetMinutes) return std::nullopt;
  return (text[0] == '-' ? -60 : 60) * total;
}

// UTC, GMT or Z with an optional offset, or an offset alone.
std::optional<Zone> FixedZone(std::string_view text) {
  std::string compact;
  for (const char c : text) {
    if (!absl::ascii_isspace(static_cast<unsigned char>(c))) {
      compact.push_back(absl::ascii_toupper(static_cast<unsigned char>(c)));
    }
  }
  std::string_view rest = compact;
  bool named = false;
  for (const std::string_view name : {"UTC", "GMT", "Z"}) {
    if (!named && rest.substr(0, name.size()) == name) {
      rest.remove_prefix(name.size());
      named = true;
    }
  }
  if (named && rest.empty()) return Zone{absl::UTCTimeZone(), "UTC"};
  const std::optional<int> seconds = ParseOffset(rest);
  if (!seconds.has_value()) return std::nullopt;
  return Zone{absl::FixedTimeZone(*seconds), OffsetName(*seconds)};
}

// `name` comes from the tables, never from a request: it becomes part of a path.
absl::StatusOr<Zone> Load(std::string_view name) {
  if (std::optional<Zone> fixed = FixedZone(name)) return *std::move(fixed);
  Zone zone{.name = std::string(name)};
  if (!absl::LoadTimeZone(zone.name, &zone.zone)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "time zone \"", zone.name, "\" is not installed here; install the package tzdata"));
  }
  return zone;
}

// Whether two zones showed the same time in every month of four decades.
bool SameClocks(const absl::TimeZone& a, const absl::TimeZone& b) {
  const absl::TimeZone utc = absl::UTCTimeZone();
  for (absl::CivilMonth month(2000, 1); month.year() < 2040; ++month) {
    const absl::Time time = absl::FromCivil(month, utc);
    if (a.At(time).offset != b.At(time).offset) return false;
  }
  return true;
}

// The one zone that `names` stand for.
absl::StatusOr<Zone> OnlyOne(std::string_view text, const std::vector<std::string>& names) {
  std::vector<Zone> zones;
  for (const std::string& name : names) {
    absl::StatusOr<Zone> zone = Load(name);
    if (!zone.ok()) return zone.status();
    const bool known = std::any_of(zones.begin(), zones.end(), [&](const Zone& other) {
      return SameClocks(other.zone, zone->zone);
    });
    if (!known) zones.push_back(*std::move(zone));
  }
  if (zones.size() == 1) return zones[0];
  return absl::InvalidArgumentError(absl::StrCat(
      Quoted(text), " may mean ",
      absl::StrJoin(zones, ", ", [](std::string* out, const Zone& z) { out->append(z.name); }),
      "; name one of them"));
}

absl::Status Unknown(std::string_view text, const std::string& key) {
  constexpr size_t kMaxSuggestions = 5;
  constexpr size_t kMinKey = 3;
  std::vector<std::string> similar;
  for (const std::string_view name : IanaZoneNames()) {
    if (key.size() >= kMinKey && similar.size() < kMaxSuggestions &&
        absl::StrContains(Normalized(name), key)) {
      similar.emplace_back(name);
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      Quoted(text),
      " is not a known time zone; write a name such as Asia/Tokyo, a city, or UTC+5:30",
      similar.empty() ? "" : absl::StrCat(" (similar: ", absl::StrJoin(similar, ", "), ")")));
}

}  // namespace

std::string OffsetName(int seconds) {
  const int magnitude = std::abs(seconds);
  std::string name = absl::StrFormat("UTC%c%02d:%02d", seconds < 0 ? '-' : '+', magnitude / 3600,
                                     magnitude / 60 % 60);
  if (magnitude % 60 != 0) absl::StrAppendFormat(&name, ":%02d", magnitude % 60);
  return name;
}

absl::StatusOr<Zone> FindZone(std::string_view text) {
  if (text.size() > kMaxNameBytes) return Unknown(text, "");
  constexpr std::string_view kEnding = " time";
  if (absl::EndsWithIgnoreCase(absl::string_view(text.data(), text.size()), " time")) {
    text.remove_suffix(kEnding.size());
  }
  const std::string key = Normalized(text);
  if (key.empty()) return absl::InvalidArgumentError("a time zone is missing");
  if (std::optional<Zone> fixed = FixedZone(text)) return *std::move(fixed);
  std::vector<std::string> last_parts;
  for (const std::string_view name : IanaZoneNames()) {
    const std::string candidate = Normalized(name);
    // Abbreviations, which the aliases hold, come before zones that are named like them.
    if (candidate == key && name.find('/') != std::string_view::npos) return Load(name);
    const size_t slash = candidate.rfind('/');
    if (candidate.substr(slash == std::string::npos ? 0 : slash + 1) == key) {
      last_parts.emplace_back(name);
    }
  }
  for (const Alias& alias : ZoneAliases()) {
    if (alias.name != key) continue;
    return OnlyOne(text,
                   absl::StrSplit(absl::string_view(alias.zones.data(), alias.zones.size()), ' '));
  }
  if (!last_parts.empty()) return OnlyOne(text, last_parts);
  return Unknown(text, key);
}

}  // namespace octogate::gateway::clock
