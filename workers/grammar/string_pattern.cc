#include "workers/grammar/string_pattern.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status_macros.h"
#include "workers/grammar/utf8_ranges.h"

namespace octogate::workers {
namespace {

using Ranges = std::vector<std::pair<char32_t, char32_t>>;

constexpr int kMaxNesting = 32;

class PatternReader {
 public:
  PatternReader(std::string_view pattern, std::string_view place)
      : pattern_(pattern), place_(place) {}

  absl::StatusOr<std::string> Read() {
    // Anchors hold for one way only where there are several, which is not what most mean.
    std::string before = "character* ";
    std::string after = " character*";
    if (Take('^')) before.clear();
    std::string_view rest = pattern_.substr(at_);
    if (rest.ends_with("$") && !rest.ends_with("\\$")) {
      pattern_.remove_suffix(1);
      after.clear();
    }
    OCTOGATE_ASSIGN_OR_RETURN(const std::string ways, Alternation(0));
    if (at_ < pattern_.size()) return Error("this \")\" closes no group");
    if (top_ways_ > 1 && (before.empty() || after.empty())) {
      return Unsupported("\"|\" beside \"^\" or \"$\"; put the ways in a group");
    }
    return absl::StrCat(before, ways, after);
  }

 private:
  absl::Status Unsupported(const std::string& what) const {
    return absl::UnimplementedError(
        absl::StrCat("schema ", place_, ": pattern, at byte ", at_, ": not supported: ", what));
  }
  absl::Status Error(const std::string& what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("schema ", place_, ": pattern, at byte ", at_, ": ", what));
  }
  bool AtEnd() const { return at_ >= pattern_.size(); }
  char Peek() const { return AtEnd() ? '\0' : pattern_[at_]; }
  bool Take(char c) {
    if (AtEnd() || pattern_[at_] != c) return false;
    ++at_;
    return true;
  }

  absl::StatusOr<std::string> Alternation(int nesting) {
    if (nesting > kMaxNesting) return Unsupported("groups nested so deep");
    std::string text = "(";
    int ways = 0;
    do {
      OCTOGATE_ASSIGN_OR_RETURN(const std::string sequence, Sequence(nesting));
      absl::StrAppend(&text, ways++ > 0 ? " | " : "", sequence);
    } while (Take('|'));
    if (nesting == 0) top_ways_ = ways;
    return text + ")";
  }

  absl::StatusOr<std::string> Sequence(int nesting) {
    std::string text = "\"\"";
    while (!AtEnd() && Peek() != '|' && Peek() != ')') {
      OCTOGATE_ASSIGN_OR_RETURN(const std::string item, Item(nesting));
      OCTOGATE_ASSIGN_OR_RETURN(const std::string repetition, Repetition());
      absl::StrAppend(&text, " ", item, repetition);
    }
    return text;
  }

  absl::StatusOr<std::string> Repetition() {
    std::string text;
    if (Peek() == '*' || Peek() == '+' || Peek() == '?') {
      text = std::string(1, Peek());
      ++at_;
    } else if (Peek() == '{') {
      const size_t end = pattern_.find('}', at_);
      if (end == pattern_.npos) return Error("this \"{\" is not closed");
      text = std::string(pattern_.substr(at_, end + 1 - at_));
      if (text.find_first_not_of("{}0123456789,") != text.npos) return Error("expected {m,n}");
      at_ = end + 1;
    }
    if (!text.empty() && (Peek() == '?' || Peek() == '+' || Peek() == '*' || Peek() == '{')) {
      return Unsupported("a repetition of a repetition, or one that is lazy or possessive");
    }
    return text;
  }

  absl::StatusOr<std::string> Item(int nesting) {
    if (Take('(')) {
      if (Take('?') && !Take(':')) return Unsupported("groups that look around or have names");
      OCTOGATE_ASSIGN_OR_RETURN(std::string group, Alternation(nesting + 1));
      if (!Take(')')) return Error("a group is not closed");
      return group;
    }
    if (Take('[')) return Class();
    if (Take('.')) return OneOf({{'\n', '\n'}, {'\r', '\r'}}, /*complement=*/true);
    if (Peek() == '^' || Peek() == '$') return Unsupported("\"^\" or \"$\" within the pattern");
    if (Peek() == '*' || Peek() == '+' || Peek() == '?' || Peek() == '{') {
      return Error("there is nothing to repeat");
    }
    Ranges ranges;
    bool complement = false;
    OCTOGATE_RETURN_IF_ERROR(Character(&ranges, &complement));
    return OneOf(std::move(ranges), complement);
  }

  // A character or what an escape stands for.
  absl::Status Character(Ranges* ranges, bool* complement) {
    if (!Take('\\')) {
      const char32_t c = TakeCodePoint(pattern_, &at_);
      ranges->emplace_back(c, c);
      return absl::OkStatus();
    }
    if (AtEnd()) return Error("a lone \"\\\"");
    const char c = Peek();
    ++at_;
    const auto add = [&](std::initializer_list<std::pair<char32_t, char32_t>> more) {
      ranges->insert(ranges->end(), more);
    };
    *complement = c == 'D' || c == 'W' || c == 'S';
    if (c == 'd' || c == 'D') {
      add({{'0', '9'}});
    } else if (c == 'w' || c == 'W') {
      add({{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}});
    } else if (c == 's' || c == 'S') {
      add({{'\t', '\r'},
           {' ', ' '},
           {0xA0, 0xA0},
           {0x1680, 0x1680},
           {0x2000, 0x200A},
           {0x2028, 0x2029},
           {0x202F, 0x202F},
           {0x205F, 0x205F},
           {0x3000, 0x3000},
           {0xFEFF, 0xFEFF}});
    } else if (static_cast<unsigned char>(c) < 0x80 && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') &&
               !(c >= '0' && c <= '9')) {
      add({{static_cast<char32_t>(c), static_cast<char32_t>(c)}});
    } else {
      return Unsupported(absl::StrCat("the escape \\", std::string(1, c)));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Class() {
    const bool complement = Take('^');
    Ranges ranges;
    while (!Take(']')) {
      if (AtEnd()) return Error("a class is not closed");
      Ranges own;
      bool inverse = false;
      OCTOGATE_RETURN_IF_ERROR(Character(&own, &inverse));
      if (inverse) NormalizeRanges(own, true);
      const bool single = own.size() == 1 && own[0].first == own[0].second;
      if (single && Peek() == '-' && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']') {
        ++at_;
        Ranges last;
        OCTOGATE_RETURN_IF_ERROR(Character(&last, &inverse));
        if (inverse || last.size() != 1 || last[0].first != last[0].second ||
            last[0].first < own[0].first) {
          return Error("a range of a class ends before it begins");
        }
        own[0].second = last[0].first;
      }
      ranges.insert(ranges.end(), own.begin(), own.end());
    }
    return OneOf(std::move(ranges), complement);
  }

  // One character of a JSON string: as it is, or "\"" and "\\" behind a backslash.
  absl::StatusOr<std::string> OneOf(Ranges ranges, bool complement) {
    NormalizeRanges(ranges, complement);
    std::string plain;
    std::string escaped;
    const auto add = [&](char32_t first, char32_t last) {
      if (first > last) return;
      absl::StrAppendFormat(&plain, "\\U%08x-\\U%08x", static_cast<uint32_t>(first),
                            static_cast<uint32_t>(last));
    };
    for (auto [first, last] : ranges) {
      if (last < 0x20) continue;  // control characters cannot be written as they are
      first = std::max<char32_t>(first, 0x20);
      for (const char32_t sign : {U'"', U'\\'}) {
        if (first > sign || last < sign) continue;
        escaped += sign == U'"' ? " | \"\\\\\\\"\"" : " | \"\\\\\\\\\"";
        if (sign > first) add(first, sign - 1);
        first = sign + 1;
      }
      add(first, last);
    }
    if (plain.empty() && escaped.empty()) return Unsupported("a class of control characters alone");
    if (plain.empty()) return absl::StrCat("(", escaped.substr(3), ")");
    return absl::StrCat("([", plain, "]", escaped, ")");
  }

  std::string_view pattern_;
  const std::string place_;
  size_t at_ = 0;
  int top_ways_ = 0;
};

}  // namespace

absl::StatusOr<std::string> StringPatternNotation(std::string_view pattern,
                                                  std::string_view place) {
  return PatternReader(pattern, place).Read();
}

}  // namespace octogate::workers
