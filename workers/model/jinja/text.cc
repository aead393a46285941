#include "workers/model/jinja/text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iterator>

namespace octogate::workers::jinja {
namespace {

struct Range {
  char32_t first;
  char32_t last;
};

// Code points first, first + stride, ... last map to themselves plus delta.
struct CaseRun {
  char32_t first;
  char32_t last;
  int stride;
  int delta;
};

struct SpecialCase {
  char32_t from;
  char32_t to[3];  // up to the first zero
};

#include "workers/model/jinja/unicode_tables.inc"

template <size_t kSize>
bool InRanges(const Range (&ranges)[kSize], char32_t c) {
  const auto* it = std::upper_bound(std::begin(ranges), std::end(ranges), c,
                                    [](char32_t value, const Range& r) { return value < r.first; });
  return it != std::begin(ranges) && c <= std::prev(it)->last;
}

// A set of case mappings, several code points long where Unicode says so.
struct CaseMap {
  const CaseRun* runs;
  size_t num_runs;
  const SpecialCase* specials;
  size_t num_specials;

  // False when the code point maps to itself.
  bool Append(std::string& out, char32_t c) const {
    const SpecialCase* special =
        std::lower_bound(specials, specials + num_specials, c,
                         [](const SpecialCase& s, char32_t value) { return s.from < value; });
    if (special != specials + num_specials && special->from == c) {
      for (const char32_t to : special->to) {
        if (to != 0) AppendCodePoint(out, to);
      }
      return true;
    }
    const CaseRun* run = std::upper_bound(
        runs, runs + num_runs, c, [](char32_t value, const CaseRun& r) { return value < r.first; });
    // Runs of every other code point interleave, so look at a few before.
    for (int i = 0; i < 3 && run != runs; ++i) {
      --run;
      if (c <= run->last && (c - run->first) % static_cast<char32_t>(run->stride) == 0) {
        AppendCodePoint(out, static_cast<char32_t>(static_cast<int>(c) + run->delta));
        return true;
      }
    }
    return false;
  }
};

constexpr CaseMap kLower = {kLowerRuns, std::size(kLowerRuns), kLowerSpecials,
                            std::size(kLowerSpecials)};
constexpr CaseMap kUpper = {kUpperRuns, std::size(kUpperRuns), kUpperSpecials,
                            std::size(kUpperSpecials)};
constexpr CaseMap kTitle = {kTitleRuns, std::size(kTitleRuns), kTitleSpecials,
                            std::size(kTitleSpecials)};

bool HasLower(char32_t c) {
  std::string ignored;
  return kLower.Append(ignored, c);
}
bool HasUpper(char32_t c) {
  std::string ignored;
  return kUpper.Append(ignored, c);
}
bool IsCased(char32_t c) { return HasLower(c) || HasUpper(c); }

void AppendLower(std::string& out, std::string_view text, size_t before, size_t after, char32_t c) {
  constexpr char32_t kCapitalSigma = 0x3A3;
  constexpr char32_t kFinalSigma = 0x3C2;
  if (c == kCapitalSigma) {
    size_t start = before;
    while (start > 0 && (static_cast<unsigned char>(text[start - 1]) & 0xC0) == 0x80) --start;
    if (start > 0) --start;
    size_t position = start;
    const bool cased_before = before > 0 && IsCased(NextCodePoint(text, position));
    position = after;
    const bool cased_after = after < text.size() && IsCased(NextCodePoint(text, position));
    AppendCodePoint(out, cased_before && !cased_after ? kFinalSigma : 0x3C3);
  } else if (!kLower.Append(out, c)) {
    AppendCodePoint(out, c);
  }
}

void AppendTitle(std::string& out, char32_t c) {
  if (!kTitle.Append(out, c) && !kUpper.Append(out, c)) AppendCodePoint(out, c);
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const unsigned char lead = static_cast<unsigned char>(text[i]);
    const int extra = lead < 0x80                   ? 0
                      : lead >= 0xC2 && lead < 0xE0 ? 1
                      : lead >= 0xE0 && lead < 0xF0 ? 2
                      : lead >= 0xF0 && lead < 0xF5 ? 3
                                                    : -1;
    if (extra < 0 || i + static_cast<size_t>(extra) >= text.size()) return false;
    for (int k = 1; k <= extra; ++k) {
      if ((static_cast<unsigned char>(text[i + static_cast<size_t>(k)]) & 0xC0) != 0x80) {
        return false;
      }
    }
    const unsigned char second = extra > 0 ? static_cast<unsigned char>(text[i + 1]) : 0;
    if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second >= 0xA0) ||
        (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second >= 0x90)) {
      return false;
    }
    i += static_cast<size_t>(extra) + 1;
  }
  return true;
}

char32_t NextCodePoint(std::string_view text, size_t& position) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(position);
  const size_t length = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (length == 1 || position + length > text.size()) {
    ++position;
    return lead;
  }
  char32_t c = lead & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(position + i) & 0xC0) != 0x80) {
      ++position;
      return lead;
    }
    c = (c << 6) | (byte(position + i) & 0x3F);
  }
  position += length;
  return c;
}

void AppendCodePoint(std::string& text, char32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else if (c < 0x800) {
    text += static_cast<char>(0xC0 | (c >> 6));
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    text += static_cast<char>(0xE0 | (c >> 12));
    text += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    text += static_cast<char>(0xF0 | (c >> 18));
    text += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    text += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  }
}

size_t CountCodePoints(std::string_view text) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); ++count) NextCodePoint(text, i);
  return count;
}

std::vector<std::string_view> SplitCodePoints(std::string_view text) {
  std::vector<std::string_view> parts;
  for (size_t i = 0; i < text.size();) {
    const size_t start = i;
    NextCodePoint(text, i);
    parts.push_back(text.substr(start, i - start));
  }
  return parts;
}

bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool IsPrintable(char32_t c) { return !InRanges(kNotPrintable, c); }

std::string_view Strip(std::string_view text, Side side, const std::string_view* characters) {
  const auto strips = [&](std::string_view point) {
    if (characters != nullptr) return characters->find(point) != std::string_view::npos;
    size_t position = 0;
    return IsSpace(NextCodePoint(point, position));
  };
  if (side != Side::kRight) {
    while (!text.empty()) {
      size_t next = 0;
      NextCodePoint(text, next);
      if (!strips(text.substr(0, next))) break;
      text.remove_prefix(next);
    }
  }
  if (side != Side::kLeft) {
    while (!text.empty()) {
      size_t start = text.size() - 1;
      while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
      if (!strips(text.substr(start))) break;
      text.remove_suffix(text.size() - start);
    }
  }
  return text;
}

std::vector<std::string_view> SplitLines(std::string_view text) {
  std::vector<std::string_view> lines;
  size_t start = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t at = i;
    const char32_t c = NextCodePoint(text, i);
    const bool ends_line = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                           c == 0x2028 || c == 0x2029;
    if (!ends_line) continue;
    if (c == '\r' && i < text.size() && text[i] == '\n') ++i;
    lines.push_back(text.substr(start, at - start));
    start = i;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

std::vector<std::string_view> SplitWhitespace(std::string_view text, int64_t max_splits,
                                              bool from_right) {
  std::vector<std::string_view> words;
  size_t start = 0;
  bool in_word = false;
  for (size_t i = 0; i < text.size();) {
    const size_t at = i;
    const bool space = IsSpace(NextCodePoint(text, i));
    if (in_word && space) words.push_back(text.substr(start, at - start));
    if (!in_word && !space) start = at;
    in_word = !space;
  }
  if (in_word) words.push_back(text.substr(start));
  if (max_splits < 0 || words.size() <= static_cast<size_t>(max_splits) + 1) return words;

  // What is left unsplit keeps its inner and its far whitespace.
  const size_t splits = static_cast<size_t>(max_splits);
  if (from_right) {
    const std::string_view last = words[words.size() - splits - 1];
    words.erase(words.begin(), words.end() - static_cast<std::ptrdiff_t>(splits));
    words.insert(words.begin(),
                 text.substr(0, static_cast<size_t>(last.data() + last.size() - text.data())));
  } else {
    const std::string_view first = words[splits];
    words.resize(splits);
    words.push_back(text.substr(static_cast<size_t>(first.data() - text.data())));
  }
  return words;
}

std::vector<std::string_view> SplitOn(std::string_view text, std::string_view separator,
                                      int64_t max_splits, bool from_right) {
  std::vector<std::string_view> parts;
  while (max_splits < 0 || static_cast<int64_t>(parts.size()) < max_splits) {
    const size_t at = from_right ? text.rfind(separator) : text.find(separator);
    if (at == std::string_view::npos) break;
    if (from_right) {
      parts.push_back(text.substr(at + separator.size()));
      text = text.substr(0, at);
    } else {
      parts.push_back(text.substr(0, at));
      text = text.substr(at + separator.size());
    }
  }
  parts.push_back(text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::string Lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t before = i;
    const char32_t c = NextCodePoint(text, i);
    AppendLower(out, text, before, i, c);
  }
  return out;
}

std::string Upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const char32_t c = NextCodePoint(text, i);
    if (!kUpper.Append(out, c)) AppendCodePoint(out, c);
  }
  return out;
}

std::string Title(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool in_word = false;
  for (size_t i = 0; i < text.size();) {
    const size_t before = i;
    const char32_t c = NextCodePoint(text, i);
    if (in_word) {
      AppendLower(out, text, before, i, c);
    } else {
      AppendTitle(out, c);
    }
    in_word = IsCased(c);
  }
  return out;
}

std::string Capitalize(std::string_view text) {
  if (text.empty()) return "";
  std::string out;
  size_t i = 0;
  AppendTitle(out, NextCodePoint(text, i));
  while (i < text.size()) {
    const size_t before = i;
    const char32_t c = NextCodePoint(text, i);
    AppendLower(out, text, before, i, c);
  }
  return out;
}

bool IsLowerText(std::string_view text) {
  bool any = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = NextCodePoint(text, i);
    if (HasLower(c)) return false;
    any = any || HasUpper(c);
  }
  return any;
}

bool IsUpperText(std::string_view text) {
  bool any = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = NextCodePoint(text, i);
    if (HasUpper(c)) return false;
    any = any || HasLower(c);
  }
  return any;
}

std::string Replace(std::string_view text, std::string_view from, std::string_view to,
                    int64_t max_count) {
  std::string out;
  int64_t count = 0;
  if (from.empty()) {
    // Python puts `to` before each code point and at the end.
    const std::vector<std::string_view> points = SplitCodePoints(text);
    for (size_t i = 0; i <= points.size(); ++i) {
      if (max_count < 0 || count++ < max_count) out += to;
      if (i < points.size()) out += points[i];
    }
    return out;
  }
  size_t start = 0;
  while (max_count < 0 || count++ < max_count) {
    const size_t at = text.find(from, start);
    if (at == std::string_view::npos) break;
    out += text.substr(start, at - start);
    out += to;
    start = at + from.size();
  }
  out += text.substr(start);
  return out;
}

std::string FloatRepr(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  if (number == 0) return std::signbit(number) ? "-0.0" : "0.0";
  char buffer[64];
  const auto written =
      std::to_chars(std::begin(buffer), std::end(buffer), number, std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<size_t>(written.ptr - buffer));
  const size_t e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  std::string sign;
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (c == '-') sign = "-";
    if (c >= '0' && c <= '9') digits += c;
  }
  // Python writes an exponent below 1e-4 and from 1e16.
  if (exponent < -4 || exponent >= 16) {
    std::string out = sign + digits.substr(0, 1);
    if (digits.size() > 1) out += "." + digits.substr(1);
    char tail[24];
    std::snprintf(tail, sizeof(tail), "e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
    return out + tail;
  }
  if (exponent < 0)
    return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string TextRepr(std::string_view text) {
  const bool double_quotes =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = double_quotes ? '"' : '\'';
  std::string out(1, quote);
  for (size_t i = 0; i < text.size();) {
    const size_t start = i;
    const char32_t c = NextCodePoint(text, i);
    char escaped[16];
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (IsPrintable(c)) {
      out += text.substr(start, i - start);
    } else {
      std::snprintf(escaped, sizeof(escaped),
                    c < 0x100     ? "\\x%02x"
                    : c < 0x10000 ? "\\u%04x"
                                  : "\\U%08x",
                    static_cast<unsigned>(c));
      out += escaped;
    }
  }
  return out + quote;
}

void AppendJsonString(std::string& out, std::string_view text, bool ensure_ascii) {
  const auto append_escape = [&out](unsigned unit) {
    char escaped[16];
    std::snprintf(escaped, sizeof(escaped), "\\u%04x", unit);
    out += escaped;
  };
  out += '"';
  for (size_t i = 0; i < text.size();) {
    const size_t start = i;
    const char32_t c = NextCodePoint(text, i);
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (c < 0x20 || (ensure_ascii && c > 0x7E && c < 0x10000)) {
          append_escape(static_cast<unsigned>(c));
        } else if (ensure_ascii && c >= 0x10000) {
          append_escape(0xD800 + ((static_cast<unsigned>(c) - 0x10000) >> 10));
          append_escape(0xDC00 + ((static_cast<unsigned>(c) - 0x10000) & 0x3FF));
        } else {
          out += text.substr(start, i - start);
        }
    }
  }
  out += '"';
}

std::string EscapeHtml(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace octogate::workers::jinja
