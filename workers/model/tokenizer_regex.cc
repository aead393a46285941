#include "workers/model/tokenizer_regex.h"

#include <unicode/uregex.h>
#include <unicode/utext.h>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "workers/model/tokenizer_json.h"
#include "workers/model/tokenizer_unicode.h"

namespace octogate::workers {
namespace {

constexpr size_t kMaxPatternBytes = 16 << 10;
// ICU counts time in units of about a millisecond and stack in bytes.
constexpr int32_t kTimeLimit = 2000;
constexpr int32_t kStackLimit = 8 << 20;

struct CloseRegex {
  void operator()(URegularExpression* regex) const { uregex_close(regex); }
};
using OwnedRegex = std::unique_ptr<URegularExpression, CloseRegex>;

struct CloseText {
  void operator()(UText* text) const { utext_close(text); }
};

// Classes that ICU knows under the same letter with another content. Outside a set, Oniguruma
// counts the superscript digits and fractions of Latin-1 as word characters too.
constexpr std::string_view kWordSet = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
constexpr std::string_view kMoreWord = "\\xB2\\xB3\\xB9\\xBC-\\xBE";
constexpr std::string_view kHexSet = "0-9A-Fa-f";

// Rewrites one pattern, left to right.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  absl::StatusOr<std::string> Run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        OCTOGATE_RETURN_IF_ERROR(Escape());
      } else if (set_depth_ > 0) {
        OCTOGATE_RETURN_IF_ERROR(InSet(c));
      } else if (c == '[') {
        OpenSet();
      } else if (c == '(' && Peek(1) == '?') {
        OCTOGATE_RETURN_IF_ERROR(Group());
      } else if (c == '{') {
        OCTOGATE_RETURN_IF_ERROR(Interval());
      } else {
        Copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  char Peek(size_t ahead) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }

  void Copy(size_t bytes) {
    out_.append(pattern_.substr(at_, bytes));
    at_ += std::min(bytes, pattern_.size() - at_);
  }

  void Replace(size_t bytes, std::string_view with) {
    out_.append(with);
    at_ += bytes;
  }

  absl::Status Unsupported(std::string_view what) const {
    return absl::UnimplementedError(
        absl::StrCat("regular expression ", Quoted(pattern_), ", byte ", at_, ": ",
                     absl::string_view(what.data(), what.size()), " is not supported"));
  }

  // Classes are written as sets; inside a set they nest.
  absl::Status Escape() {
    const char c = Peek(1);
    switch (c) {
      case 'w':
        Replace(2, absl::StrCat("[", WordSet(), "]"));
        return absl::OkStatus();
      case 'W':
        Replace(2, absl::StrCat("[^", WordSet(), "]"));
        return absl::OkStatus();
      case 'h':
        Replace(2, absl::StrCat("[", Std(kHexSet), "]"));
        return absl::OkStatus();
      case 'H':
        Replace(2, absl::StrCat("[^", Std(kHexSet), "]"));
        return absl::OkStatus();
      case 'v':
        Replace(2, "\\x0B");
        return absl::OkStatus();
      case 'p':
      case 'P':
        return Property();
      case 'x':
        return CodePoint();
      case 's':
      case 'S':
      case 'd':
      case 'D':
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'a':
      case 'e':
      case 'A':
      case 'z':
      case 'u':
        Copy(2);
        return absl::OkStatus();
      default:
        break;
    }
    const bool alphanumeric =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '\0';
    if (alphanumeric) {
      return Unsupported(absl::StrCat("the escape \\", std::string(1, c)));
    }
    Copy(1 + Utf8Length(c));
    return absl::OkStatus();
  }

  // \xHH or \x{H…}
  absl::Status CodePoint() {
    const size_t close = Peek(2) == '{' ? pattern_.find('}', at_) : at_ + 1;
    if (close == std::string_view::npos) {
      return Unsupported("a code point without a closing brace");
    }
    Copy(close + 1 - at_);
    return absl::OkStatus();
  }

  // \p{^X} is \P{X}.
  absl::Status Property() {
    if (Peek(2) != '{') {
      return Unsupported("a property without braces");
    }
    const size_t close = pattern_.find('}', at_);
    if (close == std::string_view::npos) {
      return Unsupported("a property without a closing brace");
    }
    if (Peek(3) == '^') {
      out_.append(Peek(1) == 'p' ? "\\P{" : "\\p{");
      at_ += 4;
    }
    Copy(close + 1 - at_);
    return absl::OkStatus();
  }

  void OpenSet() {
    ++set_depth_;
    Copy(1);
    if (Peek(0) == '^') {
      Copy(1);
    }
  }

  absl::Status InSet(char c) {
    if (c == ']') {
      --set_depth_;
      Copy(1);
    } else if (c == '[') {
      if (Peek(1) == ':') {
        return Unsupported("a POSIX bracket");
      }
      OpenSet();
    } else if (c == '-' && Peek(1) == '-') {
      return Unsupported("\"--\" in a set");
    } else if (c == '&' && Peek(1) != '&') {
      Replace(1, "\\&");
    } else if (c == '&') {
      Copy(2);
    } else if (c == '$' || c == '{' || c == '}') {
      // Plain characters here; ICU reads some of them as syntax.
      Replace(1, absl::StrCat("\\", std::string(1, c)));
    } else {
      Copy(1);
    }
    return absl::OkStatus();
  }

  absl::Status Group() {
    const std::string_view rest = pattern_.substr(at_ + 2);
    for (const std::string_view opener :
         {":", "=", "!", ">", "<=", "<!", "i:", "i)", "-i:", "-i)"}) {
      if (rest.substr(0, opener.size()) == opener) {
        Copy(2 + opener.size());
        return absl::OkStatus();
      }
    }
    return Unsupported("this kind of group");
  }

  // {n}, {n,} and {n,m} mean the same; {,n} does not, and a + after them is not possessive.
  absl::Status Interval() {
    const size_t close = pattern_.find('}', at_);
    if (Peek(1) < '0' || Peek(1) > '9' || close == std::string_view::npos) {
      return Unsupported("this use of braces");
    }
    if (close + 1 < pattern_.size() && pattern_[close + 1] == '+') {
      return Unsupported("a possessive interval");
    }
    Copy(close + 1 - at_);
    return absl::OkStatus();
  }

  std::string WordSet() const {
    return set_depth_ > 0 ? Std(kWordSet) : Std(kWordSet) + Std(kMoreWord);
  }

  static std::string Std(std::string_view text) { return std::string(text); }

  std::string_view pattern_;
  size_t at_ = 0;
  int set_depth_ = 0;
  std::string out_;
};

absl::Status MatchError(UErrorCode code) {
  if (code == U_REGEX_TIME_OUT || code == U_REGEX_STACK_OVERFLOW) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "a regular expression of the tokenizer needs too much ",
        code == U_REGEX_TIME_OUT ? "time" : "memory", " for this text; send a shorter one"));
  }
  return absl::InternalError(absl::StrCat("regular expression failed: ", u_errorName(code)));
}

}  // namespace

absl::StatusOr<std::string> TranslatePattern(std::string_view pattern) {
  return Translator(pattern).Run();
}

absl::StatusOr<TextPattern> TextPattern::Regex(std::string_view pattern, bool allow_scanner) {
  TextPattern result;
  if (allow_scanner) {
    result.scanner_ = FindScanner(pattern);
    if (result.scanner_ != nullptr) {
      return result;
    }
  }
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("regular expression is longer than ", kMaxPatternBytes, " bytes"));
  }
  OCTOGATE_ASSIGN_OR_RETURN(const std::string translated, TranslatePattern(pattern));
  UErrorCode code = U_ZERO_ERROR;
  UText storage = UTEXT_INITIALIZER;
  const std::unique_ptr<UText, CloseText> text(
      utext_openUTF8(&storage, translated.data(), static_cast<int64_t>(translated.size()), &code));
  UParseError where{};
  // ^ and $ match at every line in Oniguruma, where a line ends at \n only.
  OwnedRegex regex(
      uregex_openUText(text.get(), UREGEX_MULTILINE | UREGEX_UNIX_LINES, &where, &code));
  if (U_FAILURE(code)) {
    return absl::InvalidArgumentError(absl::StrCat("regular expression ", Quoted(pattern),
                                                   " does not compile: ", u_errorName(code)));
  }
  result.regex_ = std::shared_ptr<const URegularExpression>(std::move(regex));
  return result;
}

absl::StatusOr<TextPattern> TextPattern::Literal(std::string_view text) {
  if (text.empty()) {
    return absl::InvalidArgumentError("an empty pattern matches nothing in particular");
  }
  TextPattern result;
  result.literal_ = std::string(text);
  return result;
}

absl::Status TextPattern::FindAll(std::string_view text,
                                  std::chrono::steady_clock::time_point deadline,
                                  std::vector<TextRange>* matches) const {
  if (scanner_ != nullptr) {
    const char* const end = text.data() + text.size();
    for (const char* p = text.data(); p < end;) {
      const char* const next = scanner_(p, end);
      matches->push_back(
          {static_cast<size_t>(p - text.data()), static_cast<size_t>(next - text.data())});
      p = next;
    }
    return absl::OkStatus();
  }
  if (!literal_.empty()) {
    for (size_t at = text.find(literal_); at != std::string_view::npos;
         at = text.find(literal_, at + literal_.size())) {
      matches->push_back({at, at + literal_.size()});
    }
    return absl::OkStatus();
  }
  UErrorCode code = U_ZERO_ERROR;
  const OwnedRegex regex(uregex_clone(regex_.get(), &code));
  UText storage = UTEXT_INITIALIZER;
  const std::unique_ptr<UText, CloseText> input(
      utext_openUTF8(&storage, text.data(), static_cast<int64_t>(text.size()), &code));
  if (U_SUCCESS(code)) {
    // A clone does not inherit limits.
    uregex_setTimeLimit(regex.get(), kTimeLimit, &code);
    uregex_setStackLimit(regex.get(), kStackLimit, &code);
    uregex_setUText(regex.get(), input.get(), &code);
  }
  while (U_SUCCESS(code) && uregex_findNext(regex.get(), &code) != 0) {
    const int64_t begin = uregex_start64(regex.get(), 0, &code);
    const int64_t end = uregex_end64(regex.get(), 0, &code);
    if (begin < end) {
      matches->push_back({static_cast<size_t>(begin), static_cast<size_t>(end)});
    }
    if (std::chrono::steady_clock::now() > deadline) {
      code = U_REGEX_TIME_OUT;
    }
  }
  return U_FAILURE(code) ? MatchError(code) : absl::OkStatus();
}

}  // namespace octogate::workers
