#include "gateway/tools/calculator/lexer.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "gateway/tools/request_text.h"

namespace octogate::gateway::calculator {
namespace {

constexpr int64_t kMaxExponent = 1'000'000'000;

struct Spelling {
  std::string_view text;
  TokenKind kind;
  std::string_view function = {};
};

// Longest first where one starts another.
constexpr Spelling kSymbols[] = {
    {"**", TokenKind::kPower},
    {"+", TokenKind::kPlus},
    {"-", TokenKind::kMinus},
    {"*", TokenKind::kTimes},
    {"/", TokenKind::kDivide},
    {"^", TokenKind::kPower},
    {"%", TokenKind::kPercent},
    {"!", TokenKind::kFactorial},
    {",", TokenKind::kComma},
    {"(", TokenKind::kOpen},
    {")", TokenKind::kClose},
    {"×", TokenKind::kTimes},
    {"·", TokenKind::kTimes},
    {"⋅", TokenKind::kTimes},
    {"÷", TokenKind::kDivide},
    {"−", TokenKind::kMinus},
    {"π", TokenKind::kPi},
    {"°", TokenKind::kDegrees},
    {"²", TokenKind::kSquared},
    {"³", TokenKind::kCubed},
    {"√", TokenKind::kFunction, "sqrt"},
    {"∛", TokenKind::kFunction, "cbrt"},
};

// Words in lower case with single spaces; longest first where one starts another.
constexpr Spelling kPhrases[] = {
    {"raised to the power of", TokenKind::kPower},
    {"to the power of", TokenKind::kPower},
    {"multiplied by", TokenKind::kTimes},
    {"divided by", TokenKind::kDivide},
    {"square root of", TokenKind::kFunction, "sqrt"},
    {"square root", TokenKind::kFunction, "sqrt"},
    {"cube root of", TokenKind::kFunction, "cbrt"},
    {"cube root", TokenKind::kFunction, "cbrt"},
    {"per cent", TokenKind::kPercent},
    {"percent", TokenKind::kPercent},
    {"plus", TokenKind::kPlus},
    {"minus", TokenKind::kMinus},
    {"times", TokenKind::kTimes},
    {"over", TokenKind::kDivide},
    {"modulo", TokenKind::kModulo},
    {"squared", TokenKind::kSquared},
    {"cubed", TokenKind::kCubed},
    {"degrees", TokenKind::kDegrees},
    {"degree", TokenKind::kDegrees},
    {"of", TokenKind::kOf},
    {"off", TokenKind::kOff},
    {"and", TokenKind::kAnd},
    {"pi", TokenKind::kPi},
    {"e", TokenKind::kE},
};

// Spaces that keyboards and documents put into numbers and formulas.
constexpr std::string_view kWideSpaces[] = {"\u00A0", "\u2009", "\u202F"};

bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }
bool IsLetter(char c) { return absl::ascii_isalpha(static_cast<unsigned char>(c)); }

// Whether a value can end with this token.
bool EndsOperand(TokenKind kind) {
  switch (kind) {
    case TokenKind::kNumber:
    case TokenKind::kPi:
    case TokenKind::kE:
    case TokenKind::kPercent:
    case TokenKind::kFactorial:
    case TokenKind::kDegrees:
    case TokenKind::kSquared:
    case TokenKind::kCubed:
    case TokenKind::kClose:
      return true;
    default:
      return false;
  }
}

class Lexer {
 public:
  Lexer(std::string_view request, std::string_view expression)
      : request_(request),
        end_(static_cast<size_t>(expression.data() - request.data()) + expression.size()),
        at_(end_ - expression.size()) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (SkipSpaces(), at_ < end_) {
      absl::Status status = IsDigit(Peek()) || (Peek() == '.' && IsDigit(Peek(1))) ? Number()
                            : IsLetter(Peek())                                     ? Word()
                                                                                   : Symbol();
      if (!status.ok()) return status;
    }
    Add(TokenKind::kEnd, 0);
    return std::move(tokens_);
  }

 private:
  char Peek(size_t ahead = 0) const { return at_ + ahead < end_ ? request_[at_ + ahead] : '\0'; }
  std::string_view Rest() const { return request_.substr(at_, end_ - at_); }
  int Column() const { return ColumnOf(request_, at_); }

  void SkipSpaces() {
    while (at_ < end_) {
      size_t length = absl::ascii_isspace(static_cast<unsigned char>(Peek())) ? 1 : 0;
      for (const std::string_view space : kWideSpaces) {
        if (Rest().substr(0, space.size()) == space) length = space.size();
      }
      if (length == 0) return;
      at_ += length;
    }
  }

  Token& Add(TokenKind kind, size_t length) {
    Token& token = tokens_.emplace_back();
    token.kind = kind;
    token.column = Column();
    token.text = request_.substr(at_, length);
    at_ += length;
    return token;
  }

  // Whether a comma here, directly within the innermost brackets, can only be part of a number.
  bool CommaIsInNumber() const { return brackets_.empty() || !brackets_.back().takes_several; }

  void ReadDigits(std::string& digits) {
    while (IsDigit(Peek()) || (Peek() == '_' && IsDigit(Peek(1)) && !digits.empty())) {
      if (Peek() != '_') digits.push_back(Peek());
      ++at_;
    }
  }

  // Whether ",ddd" follows and the group ends there.
  bool AtThousandsGroup() const {
    return Peek() == ',' && IsDigit(Peek(1)) && IsDigit(Peek(2)) && IsDigit(Peek(3)) &&
           !IsDigit(Peek(4)) && Peek(4) != '_';
  }

  absl::Status Number() {
    const size_t start = at_;
    const int column = Column();
    std::string digits;
    int64_t exponent = 0;
    ReadDigits(digits);
    const bool can_group = at_ - start >= 1 && at_ - start <= 3;
    if (can_group && AtThousandsGroup()) {
      if (!CommaIsInNumber()) {
        if (Peek(1) == '0') {
          return InvalidAt(column,
                           "a comma between a function's arguments separates them; write 1000 "
                           "instead of 1,000 here");
        }
        brackets_.back().group_column = column;
      } else {
        while (AtThousandsGroup()) {
          ++at_;
          ReadDigits(digits);
        }
      }
    }
    if (Peek() == '.' && (IsDigit(Peek(1)) || at_ > start)) {
      ++at_;
      const size_t whole = digits.size();
      std::string fraction;
      ReadDigits(fraction);
      digits += fraction;
      exponent = -static_cast<int64_t>(digits.size() - whole);
      if (Peek() == '.' && IsDigit(Peek(1))) {
        return InvalidAt(Column(), "a number has at most one decimal point");
      }
    }
    exponent += ReadExponent();
    if ((Peek() == 'x' || Peek() == 'X') && request_.substr(start, at_ - start) == "0") {
      return InvalidAt(column, "hexadecimal is not understood; write 0 * x for a product");
    }
    const size_t length = at_ - start;
    at_ = start;
    Token& token = Add(TokenKind::kNumber, length);
    token.digits = std::move(digits);
    token.exponent = std::clamp(exponent, -kMaxExponent, kMaxExponent);
    return absl::OkStatus();
  }

  // "e5", "E-3"; an "e" without digits is left for the constant.
  int64_t ReadExponent() {
    if (Peek() != 'e' && Peek() != 'E') return 0;
    const bool has_sign = Peek(1) == '+' || Peek(1) == '-';
    if (!IsDigit(Peek(has_sign ? 2 : 1))) return 0;
    const bool negative = Peek(1) == '-';
    at_ += has_sign ? 2 : 1;
    int64_t value = 0;
    for (; IsDigit(Peek()); ++at_) value = std::min(kMaxExponent, value * 10 + (Peek() - '0'));
    return negative ? -value : value;
  }

  size_t MatchWords(std::string_view phrase) const { return MatchPhrase(Rest(), phrase); }

  absl::Status Word() {
    const bool after_operand = !tokens_.empty() && EndsOperand(tokens_.back().kind);
    if ((Peek() == 'x' || Peek() == 'X') && after_operand && !IsLetter(Peek(1))) {
      Add(TokenKind::kTimes, 1);
      return absl::OkStatus();
    }
    if (const size_t length = MatchWords("the"); length > 0) {
      at_ += length;
      return absl::OkStatus();
    }
    if (const size_t length = MatchWords("mod"); length > 0 && after_operand) {
      Add(TokenKind::kModulo, length);
      return absl::OkStatus();
    }
    for (const Spelling& phrase : kPhrases) {
      if (const size_t length = MatchWords(phrase.text); length > 0) {
        Add(phrase.kind, length).function = FindFunction(phrase.function);
        return absl::OkStatus();
      }
    }
    size_t length = 0;
    while (IsLetter(Peek(length)) || IsDigit(Peek(length))) ++length;
    const std::string_view word = request_.substr(at_, length);
    const std::string lower = absl::AsciiStrToLower(absl::string_view(word.data(), word.size()));
    if (const FunctionInfo* function = FindFunction(lower); function != nullptr) {
      Add(TokenKind::kFunction, length).function = function;
      return absl::OkStatus();
    }
    return InvalidAt(
        Column(),
        absl::StrCat(Quoted(word), " is not understood; known functions: ", FunctionNames()));
  }

  absl::Status Symbol() {
    for (const Spelling& symbol : kSymbols) {
      if (Rest().substr(0, symbol.text.size()) != symbol.text) continue;
      if (symbol.kind == TokenKind::kOpen) {
        const bool call = !tokens_.empty() && tokens_.back().kind == TokenKind::kFunction;
        brackets_.push_back({.takes_several = call && tokens_.back().function->max_arguments > 1});
      } else if (symbol.kind == TokenKind::kClose && !brackets_.empty()) {
        if (brackets_.back().group_column > 0 && brackets_.back().spaced_comma) {
          return InvalidAt(brackets_.back().group_column,
                           "is this comma between thousands or between arguments? Put a space "
                           "after each comma between arguments and none into numbers");
        }
        brackets_.pop_back();
      } else if (symbol.kind == TokenKind::kComma && !brackets_.empty() && Peek(1) == ' ') {
        brackets_.back().spaced_comma = true;
      }
      Add(symbol.kind, symbol.text.size()).function = FindFunction(symbol.function);
      return absl::OkStatus();
    }
    size_t length = 1;
    while ((static_cast<unsigned char>(Peek(length)) & 0xC0) == 0x80) ++length;
    return InvalidAt(Column(),
                     absl::StrCat(Quoted(Rest().substr(0, length)), " is not understood"));
  }

  const std::string_view request_;
  const size_t end_;
  size_t at_;
  std::vector<Token> tokens_;
  struct Bracket {
    bool takes_several = false;  // Holds the arguments of a function that takes several.
    int group_column = 0;        // Of a number in it that could go on after its comma.
    bool spaced_comma = false;   // It has a comma that can only separate arguments.
  };
  std::vector<Bracket> brackets_;
};

}  // namespace

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view request, std::string_view expression) {
  return Lexer(request, expression).Run();
}

}  // namespace octogate::gateway::calculator
