#include "workers/model/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "workers/model/jinja/text.h"

namespace octogate::workers::jinja {
namespace {

// Longest first, so that the first match is the right one.
constexpr std::array<std::string_view, 26> kOperators = {
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
    "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool IsNamePart(char c) { return IsNameStart(c) || IsDigit(c); }

// One newline for every line end, without the last one.
std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(NormalizeNewlines(source)) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (status_.ok() && position_ < source_.size()) LexRoot();
    if (!status_.ok()) return status_;
    Add(Token::Kind::kEnd, position_);
    return std::move(tokens_);
  }

 private:
  bool At(size_t position, std::string_view text) const {
    return std::string_view(source_).substr(position).starts_with(text);
  }

  void Fail(size_t position, std::string_view message) {
    if (!status_.ok()) return;
    const auto [line, column] = LineAndColumn(position);
    status_ = absl::InvalidArgumentError(absl::StrCat("chat template, line ", line, ", column ",
                                                      column, ": ", std::string(message)));
  }

  std::pair<int, int> LineAndColumn(size_t position) {
    // Asked for in ascending order but for errors, which start over.
    if (position < counted_to_) counted_to_ = 0, line_ = 1, line_start_ = 0;
    for (; counted_to_ < position; ++counted_to_) {
      if (source_[counted_to_] == '\n') {
        ++line_;
        line_start_ = counted_to_ + 1;
      }
    }
    return {line_, static_cast<int>(position - line_start_) + 1};
  }

  Token& Add(Token::Kind kind, size_t position) {
    Token token;
    token.kind = kind;
    std::tie(token.line, token.column) = LineAndColumn(position);
    tokens_.push_back(std::move(token));
    return tokens_.back();
  }

  size_t SkipSpace(size_t position) const {
    while (position < source_.size()) {
      size_t next = position;
      if (!IsSpace(NextCodePoint(source_, next))) break;
      position = next;
    }
    return position;
  }

  // The text between two tags, as the tag after it ("-", "+" or neither) and
  // lstrip_blocks leave it.
  void AddData(size_t start, size_t end, char sign, bool lstrip) {
    std::string_view text = std::string_view(source_).substr(start, end - start);
    if (sign == '-') {
      text = Strip(text, Side::kRight, nullptr);
    } else if (sign != '+' && lstrip) {
      const size_t newline = text.rfind('\n');
      const size_t line_start = newline == std::string_view::npos ? 0 : newline + 1;
      if ((line_start > 0 || line_starting_) &&
          Strip(text.substr(line_start), Side::kLeft, nullptr).empty()) {
        text = text.substr(0, line_start);
      }
    }
    if (!text.empty()) Add(Token::Kind::kData, start).text = std::string(text);
  }

  // Past the end of a block or comment: "-" takes all whitespace after it, "+"
  // none, and otherwise trim_blocks takes one newline.
  void FinishTag(size_t after, char sign) {
    position_ = after;
    if (sign == '-') {
      position_ = SkipSpace(after);
    } else if (sign != '+' && At(after, "\n")) {
      ++position_;
    }
    line_starting_ = position_ > 0 && source_[position_ - 1] == '\n';
  }

  void LexRoot() {
    size_t tag = position_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos) {
        AddData(position_, source_.size(), '+', false);
        position_ = source_.size();
        return;
      }
      if (At(tag, "{{") || At(tag, "{%") || At(tag, "{#")) break;
      ++tag;
    }
    const char type = source_[tag + 1];
    size_t after = tag + 2;
    const char sign = after < source_.size() && (source_[after] == '-' || source_[after] == '+')
                          ? source_[after]
                          : '\0';
    if (sign != '\0') ++after;
    AddData(position_, tag, sign, type != '{');
    position_ = after;
    if (type == '#') {
      LexComment(tag, after);
    } else if (type == '%' && IsRawTag(after)) {
      LexRaw(tag);
    } else {
      Add(type == '{' ? Token::Kind::kVariableBegin : Token::Kind::kBlockBegin, tag);
      LexTag(tag, type == '{');
    }
  }

  void LexComment(size_t tag, size_t start) {
    const size_t end = source_.find("#}", start);
    if (end == std::string::npos) {
      Fail(tag, "the comment does not end");
      return;
    }
    const char last = end > start ? source_[end - 1] : '\0';
    FinishTag(end + 2, last == '-' || last == '+' ? last : '\0');
  }

  // Whether "{%" at which `start` is the position after it opens {% raw %};
  // leaves the position of its end in raw_end_.
  bool IsRawTag(size_t start) {
    size_t i = SkipSpace(start);
    if (!At(i, "raw")) return false;
    i = SkipSpace(i + 3);
    if (At(i, "-%}")) {
      raw_end_ = SkipSpace(i + 3);
      return true;
    }
    raw_end_ = i + 2;
    return At(i, "%}");
  }

  void LexRaw(size_t tag) {
    const size_t start = raw_end_;
    line_starting_ = start > 0 && source_[start - 1] == '\n';
    for (size_t end = source_.find("{%", start); end != std::string::npos;
         end = source_.find("{%", end + 2)) {
      size_t i = end + 2;
      const char sign =
          i < source_.size() && (source_[i] == '-' || source_[i] == '+') ? source_[i] : '\0';
      if (sign != '\0') ++i;
      i = SkipSpace(i);
      if (!At(i, "endraw")) continue;
      i = SkipSpace(i + 6);
      const char end_sign = At(i, "-%}") || At(i, "+%}") ? source_[i] : '\0';
      if (end_sign != '\0') ++i;
      if (!At(i, "%}")) continue;
      AddData(start, end, sign, true);
      FinishTag(i + 2, end_sign);
      return;
    }
    Fail(tag, "the raw block does not end");
  }

  // The inside of {{ }} or {% %}.
  void LexTag(size_t tag, bool is_variable) {
    const std::string_view close = is_variable ? "}}" : "%}";
    brackets_.clear();
    while (status_.ok()) {
      position_ = SkipSpace(position_);
      if (position_ >= source_.size()) {
        Fail(tag, is_variable ? "'{{' is not closed" : "'{%' is not closed");
        return;
      }
      if (brackets_.empty()) {
        const char c = source_[position_];
        const bool signed_close =
            (c == '-' || (c == '+' && !is_variable)) && At(position_ + 1, close);
        if (signed_close || At(position_, close)) {
          Add(is_variable ? Token::Kind::kVariableEnd : Token::Kind::kBlockEnd, position_);
          const size_t after = position_ + (signed_close ? 3 : 2);
          // No newline is trimmed after a variable.
          FinishTag(after, signed_close ? c : is_variable ? '+' : '\0');
          return;
        }
      }
      LexToken();
    }
  }

  void LexToken() {
    const char c = source_[position_];
    if (IsDigit(c)) {
      LexNumber();
    } else if (IsNameStart(c)) {
      size_t end = position_;
      while (end < source_.size() && IsNamePart(source_[end])) ++end;
      Add(Token::Kind::kName, position_).text = source_.substr(position_, end - position_);
      position_ = end;
    } else if (c == '\'' || c == '"') {
      LexString(c);
    } else {
      LexOperator();
    }
  }

  void LexNumber() {
    const size_t start = position_;
    size_t end = start;
    std::string digits;
    const auto take_digits = [&](auto is_digit) {
      while (end < source_.size() &&
             (is_digit(source_[end]) ||
              (source_[end] == '_' && end + 1 < source_.size() && is_digit(source_[end + 1])))) {
        if (source_[end] != '_') digits += source_[end];
        ++end;
      }
    };
    int base = 10;
    const char letter = start + 1 < source_.size() && source_[start] == '0'
                            ? static_cast<char>(source_[start + 1] | 0x20)
                            : '\0';
    if (letter == 'x' || letter == 'o' || letter == 'b') {
      base = letter == 'x' ? 16 : letter == 'o' ? 8 : 2;
      end += 2;
      take_digits([base](char c) {
        const int digit = IsDigit(c) ? c - '0' : (c | 0x20) >= 'a' ? (c | 0x20) - 'a' + 10 : 99;
        return digit < base;
      });
    } else {
      take_digits(IsDigit);
    }
    bool is_float = false;
    if (base == 10) {
      const bool after_dot = start > 0 && source_[start - 1] == '.';
      if (!after_dot && end + 1 < source_.size() && source_[end] == '.' &&
          IsDigit(source_[end + 1])) {
        is_float = true;
        digits += source_[end++];
        take_digits(IsDigit);
      }
      if (!after_dot && end < source_.size() && (source_[end] | 0x20) == 'e') {
        const size_t sign =
            end + 1 < source_.size() && (source_[end + 1] == '-' || source_[end + 1] == '+');
        if (end + 1 + sign < source_.size() && IsDigit(source_[end + 1 + sign])) {
          is_float = true;
          digits += source_.substr(end, 1 + sign);
          end += 1 + sign;
          take_digits(IsDigit);
        }
      }
    }
    if (is_float) {
      double number = 0;
      const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), number);
      if (parsed.ec != std::errc()) {
        Fail(start, "the number is out of range");
        return;
      }
      Add(Token::Kind::kFloat, start).number = number;
    } else {
      int64_t integer = 0;
      const auto parsed =
          std::from_chars(digits.data(), digits.data() + digits.size(), integer, base);
      if (parsed.ec != std::errc()) {
        Fail(start, "the number is out of range");
        return;
      }
      Add(Token::Kind::kInteger, start).integer = integer;
    }
    position_ = end;
  }

  void LexString(char quote) {
    const size_t start = position_;
    std::string text;
    for (size_t i = start + 1; i < source_.size(); ++i) {
      if (source_[i] == quote) {
        Add(Token::Kind::kString, start).text = std::move(text);
        position_ = i + 1;
        return;
      }
      if (source_[i] != '\\') {
        text += source_[i];
        continue;
      }
      if (!AppendEscape(text, ++i)) {
        Fail(i - 1, "the escape sequence is not valid");
        return;
      }
    }
    Fail(start, "the string does not end");
  }

  // A Python escape whose character after the backslash is at `i`; leaves `i`
  // at its last character.
  bool AppendEscape(std::string& text, size_t& i) {
    if (i >= source_.size()) return false;
    const char c = source_[i];
    constexpr std::string_view kFrom = "\\'\"abfnrtv";
    constexpr std::string_view kTo = "\\'\"\a\b\f\n\r\t\v";
    if (const size_t at = kFrom.find(c); at != std::string_view::npos) {
      text += kTo[at];
      return true;
    }
    if (c == '\n') return true;
    const size_t hex_digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (hex_digits > 0) {
      uint32_t point = 0;
      const char* begin = source_.data() + i + 1;
      if (i + hex_digits >= source_.size()) return false;
      const auto parsed = std::from_chars(begin, begin + hex_digits, point, 16);
      if (parsed.ptr != begin + hex_digits || point > 0x10FFFF ||
          (point >= 0xD800 && point <= 0xDFFF)) {
        return false;
      }
      AppendCodePoint(text, point);
      i += hex_digits;
      return true;
    }
    if (c >= '0' && c <= '7') {
      char32_t point = 0;
      size_t count = 0;
      for (; count < 3 && i + count < source_.size() && source_[i + count] >= '0' &&
             source_[i + count] <= '7';
           ++count) {
        point = point * 8 + static_cast<char32_t>(source_[i + count] - '0');
      }
      AppendCodePoint(text, point);
      i += count - 1;
      return true;
    }
    if (c == 'N') return false;
    // Python keeps the backslash of an escape that it does not know.
    text += '\\';
    text += c;
    return true;
  }

  void LexOperator() {
    for (const std::string_view op : kOperators) {
      if (!At(position_, op)) continue;
      const char c = op[0];
      if (c == '(' || c == '[' || c == '{') brackets_ += c == '(' ? ')' : c == '[' ? ']' : '}';
      if (c == ')' || c == ']' || c == '}') {
        if (brackets_.empty() || brackets_.back() != c) {
          Fail(position_, absl::StrCat("unexpected '", std::string(op), "'"));
          return;
        }
        brackets_.pop_back();
      }
      Add(Token::Kind::kOperator, position_).text = std::string(op);
      position_ += op.size();
      return;
    }
    Fail(position_, "unexpected character");
  }

  const std::string source_;
  size_t position_ = 0;
  // Whether nothing but a newline precedes the position in its line.
  bool line_starting_ = true;
  size_t raw_end_ = 0;
  std::string brackets_;
  std::vector<Token> tokens_;
  absl::Status status_;
  size_t counted_to_ = 0;
  int line_ = 1;
  size_t line_start_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source) {
  if (!IsValidUtf8(source)) {
    return absl::InvalidArgumentError("chat template: not valid UTF-8");
  }
  return Lexer(source).Run();
}

}  // namespace octogate::workers::jinja
