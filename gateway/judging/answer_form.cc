#include "gateway/judging/answer_form.h"

#include <cmath>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

constexpr size_t kMaxBytes = size_t{64} << 10;

bool IsDigit(std::string_view text, size_t i) {
  return i < text.size() && absl::ascii_isdigit(static_cast<unsigned char>(text[i]));
}
// Bytes of characters beyond ASCII count as letters.
bool IsWord(std::string_view text, size_t i) {
  if (i >= text.size()) return false;
  const auto c = static_cast<unsigned char>(text[i]);
  return absl::ascii_isalnum(c) || c >= 0x80 || c == '_' || c == '\'';
}

// One space for each run of white space, none at the ends, ASCII letters in lower case.
std::string Folded(std::string_view text) {
  std::string folded;
  for (const char c : text) {
    if (!absl::ascii_isspace(static_cast<unsigned char>(c))) {
      folded.push_back(absl::ascii_tolower(static_cast<unsigned char>(c)));
    } else if (!folded.empty() && folded.back() != ' ') {
      folded.push_back(' ');
    }
  }
  if (!folded.empty() && folded.back() == ' ') folded.pop_back();
  return folded;
}

// The end of the number that begins at `begin`, which is a digit; its digits and sign, without the
// commas between groups of three, are added to `number`.
size_t ReadNumber(std::string_view text, size_t begin, std::string* number) {
  size_t i = begin;
  while (IsDigit(text, i)) number->push_back(text[i++]);
  while (i < text.size() && text[i] == ',' && i - begin <= kMaxBytes && IsDigit(text, i + 1) &&
         IsDigit(text, i + 2) && IsDigit(text, i + 3) && !IsDigit(text, i + 4)) {
    number->append(text.substr(i + 1, 3));
    i += 4;
  }
  if (i < text.size() && text[i] == '.' && IsDigit(text, i + 1)) {
    number->push_back(text[i++]);
    while (IsDigit(text, i)) number->push_back(text[i++]);
  }
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    const bool has_sign = i + 1 < text.size() && (text[i + 1] == '-' || text[i + 1] == '+');
    size_t digits = i + (has_sign ? 2 : 1);
    if (IsDigit(text, digits)) {
      number->append(text.substr(i, digits - i));
      while (IsDigit(text, digits)) number->push_back(text[digits++]);
      i = digits;
    }
  }
  return i;
}

std::string LastNumber(std::string_view text) {
  std::string last;
  for (size_t i = 0; i < text.size();) {
    // Digits inside of words are no numbers: "x2".
    if (!IsDigit(text, i) || (i > 0 && IsWord(text, i - 1))) {
      ++i;
      continue;
    }
    // A dash behind a word or a number is a hyphen.
    std::string number;
    if (i > 0 && text[i - 1] == '-' && (i < 2 || !IsWord(text, i - 2))) number = "-";
    i = ReadNumber(text, i, &number);
    last = number;
  }
  double value = 0;
  if (last.empty() || !absl::SimpleAtod(last, &value) || !std::isfinite(value)) return "";
  if (value == 0) value = 0;  // Not minus zero.
  return absl::StrFormat("%.15g", value);
}

// The last letter A to Z on its own; one in parentheses goes before all others.
std::string LastChoice(std::string_view text) {
  std::string plain;
  for (size_t i = text.size(); i-- > 0;) {
    if (!absl::ascii_isupper(static_cast<unsigned char>(text[i]))) continue;
    if (i > 0 && text[i - 1] == '(' && i + 1 < text.size() && text[i + 1] == ')') {
      return std::string(1, text[i]);
    }
    if (plain.empty() && (i == 0 || !IsWord(text, i - 1)) && !IsWord(text, i + 1)) {
      plain = text[i];
    }
  }
  return plain;
}

}  // namespace

std::string NormalizeAnswer(std::string_view answer, v1::AnswerForm form) {
  if (answer.size() > kMaxBytes) answer.remove_prefix(answer.size() - kMaxBytes);
  switch (form) {
    case v1::ANSWER_FORM_EXACT:
      return std::string(ToStd(absl::StripAsciiWhitespace(ToAbsl(answer))));
    case v1::ANSWER_FORM_NUMBER:
      return LastNumber(answer);
    case v1::ANSWER_FORM_CHOICE:
      return LastChoice(answer);
    default:
      return Folded(answer);
  }
}

}  // namespace octogate::gateway
