#include "gateway/tools/request_text.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace octogate::gateway {
namespace {

constexpr std::string_view kCurlyApostrophe = "’";

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// The length of the well-formed UTF-8 sequence at the front of `text`, or 0.
size_t SequenceLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if (!IsContinuation(text[i])) return 0;
  }
  if (first == 0xE0 && byte(1) < 0xA0) return 0;  // Overlong.
  if (first == 0xED && byte(1) > 0x9F) return 0;  // A surrogate.
  if (first == 0xF0 && byte(1) < 0x90) return 0;  // Overlong.
  if (first == 0xF4 && byte(1) > 0x8F) return 0;  // Past U+10FFFF.
  return length;
}

bool IsWordByte(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_'; }

bool IsSpaceByte(char c) { return absl::ascii_isspace(static_cast<unsigned char>(c)); }

std::string_view TrimSpaces(std::string_view text) {
  while (!text.empty() && IsSpaceByte(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpaceByte(text.back())) text.remove_suffix(1);
  return text;
}

bool DropOnePrefix(std::string_view& text, absl::Span<const std::string_view> prefixes) {
  for (const std::string_view prefix : prefixes) {
    const size_t length = MatchPhrase(text, prefix);
    if (length == 0) continue;
    text = TrimSpaces(text.substr(length));
    return true;
  }
  return false;
}

bool DropOneSuffix(std::string_view& text, absl::Span<const std::string_view> suffixes) {
  for (const std::string_view suffix : suffixes) {
    if (text.size() < suffix.size()) continue;
    const size_t start = text.size() - suffix.size();
    if (MatchPhrase(text.substr(start), suffix) != suffix.size()) continue;
    if (start > 0 && IsWordByte(suffix.front()) && IsWordByte(text[start - 1])) continue;
    text = TrimSpaces(text.substr(0, start));
    return true;
  }
  return false;
}

}  // namespace

size_t MatchPhrase(std::string_view text, std::string_view phrase) {
  size_t at = 0;
  for (const char expected : phrase) {
    const std::string_view rest = text.substr(at);
    if (expected == ' ') {
      size_t spaces = 0;
      while (spaces < rest.size() && IsSpaceByte(rest[spaces])) ++spaces;
      if (spaces == 0) return 0;
      at += spaces;
    } else if (expected == '\'' && rest.substr(0, kCurlyApostrophe.size()) == kCurlyApostrophe) {
      at += kCurlyApostrophe.size();
    } else if (!rest.empty() &&
               absl::ascii_tolower(static_cast<unsigned char>(rest[0])) == expected) {
      ++at;
    } else {
      return 0;
    }
  }
  const bool word_goes_on = at < text.size() && IsWordByte(phrase.back()) && IsWordByte(text[at]);
  return word_goes_on ? 0 : at;
}

absl::Status CheckRequestText(std::string_view text, size_t max_bytes) {
  if (text.size() > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("the request has ", text.size(),
                                                   " bytes; the limit is ", max_bytes, " bytes"));
  }
  for (size_t i = 0; i < text.size();) {
    const size_t length = SequenceLength(text.substr(i));
    if (length == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("byte ", i + 1, " of the request is not valid UTF-8"));
    }
    i += length;
  }
  return absl::OkStatus();
}

std::string_view StripPhrases(std::string_view text, absl::Span<const std::string_view> prefixes,
                              absl::Span<const std::string_view> suffixes) {
  text = TrimSpaces(text);
  while (DropOnePrefix(text, prefixes)) {
  }
  while (DropOneSuffix(text, suffixes)) {
  }
  return text;
}

int ColumnOf(std::string_view text, size_t offset) {
  int column = 1;
  for (size_t i = 0; i < offset && i < text.size(); ++i) {
    if (!IsContinuation(text[i])) ++column;
  }
  return column;
}

absl::Status AtColumn(int column, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("column ", column, ": ", status.message()));
}

absl::Status InvalidAt(int column, std::string_view message) {
  return absl::InvalidArgumentError(
      absl::StrCat("column ", column, ": ", absl::string_view(message.data(), message.size())));
}

std::string Quoted(std::string_view text) {
  constexpr size_t kMaxBytes = 40;
  size_t length = text.size();
  if (length > kMaxBytes) {
    length = kMaxBytes;
    while (length > 0 && IsContinuation(text[length])) --length;
  }
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(absl::string_view(text.data(), length)),
                      length < text.size() ? "…" : "", "\"");
}

}  // namespace octogate::gateway
