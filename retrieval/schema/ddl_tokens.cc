#include "retrieval/schema/ddl_tokens.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace octogate::schema {
namespace {

constexpr size_t kMaxTokens = 32'000'000;  // of 48 bytes each

bool IsWordStart(char c) {
  return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool IsWordPart(char c) {
  return IsWordStart(c) || absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '$';
}

class Tokenizer {
 public:
  Tokenizer(std::string_view text, std::string_view source) : text_(text), source_(source) {}

  absl::StatusOr<std::vector<DdlToken>> Run() {
    while (at_ < text_.size()) {
      const absl::Status status = Next();
      if (!status.ok()) return status;
      if (tokens_.size() > kMaxTokens) {
        return absl::ResourceExhaustedError(
            absl::StrCat(ToAbsl(source_), ":", line_, ": more than ", kMaxTokens,
                         " words and signs; dump the schema alone, without rows"));
      }
    }
    tokens_.push_back({.kind = DdlToken::kEnd, .text = {}, .line = line_});
    return std::move(tokens_);
  }

 private:
  bool At(std::string_view what) const { return text_.substr(at_, what.size()) == what; }

  void Advance(size_t count) {
    for (; count > 0 && at_ < text_.size(); --count) {
      if (text_[at_] == '\n') ++line_;
      ++at_;
    }
  }

  void SkipLine() {
    const size_t end = text_.find('\n', at_);
    at_ = end == std::string_view::npos ? text_.size() : end;
  }

  absl::Status Unended(std::string_view what, size_t line) const {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(source_), ":", line, ": ", ToAbsl(what), " does not end"));
  }

  void Push(DdlToken::Kind kind, std::string text, size_t line) {
    tokens_.push_back({.kind = kind, .text = std::move(text), .line = line});
  }

  absl::Status SkipComment() {
    const size_t starts = line_;
    int depth = 0;
    while (at_ < text_.size()) {
      if (At("/*")) {
        ++depth;
        Advance(2);
      } else if (At("*/")) {
        Advance(2);
        if (--depth == 0) return absl::OkStatus();
      } else {
        Advance(1);
      }
    }
    return Unended("a comment", starts);
  }

  // At the opening quote. `escapes`: whether a backslash escapes.
  absl::Status ReadQuoted(char close, bool escapes, DdlToken::Kind kind) {
    const size_t starts = line_;
    std::string content;
    Advance(1);
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (escapes && c == '\\' && at_ + 1 < text_.size()) {
        const char escaped = text_[at_ + 1];
        content.push_back(escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped);
        Advance(2);
      } else if (c == close && at_ + 1 < text_.size() && text_[at_ + 1] == close && close != ']') {
        content.push_back(c);
        Advance(2);
      } else if (c == close) {
        Advance(1);
        Push(kind, std::move(content), starts);
        return absl::OkStatus();
      } else {
        content.push_back(c);
        Advance(1);
      }
    }
    return Unended(kind == DdlToken::kString ? "a string" : "a quoted identifier", starts);
  }

  // "$tag$": true if one starts here; `tag` is all of it.
  bool AtDollarQuote(std::string_view* tag) const {
    size_t end = at_ + 1;
    while (end < text_.size() && IsWordPart(text_[end]) && text_[end] != '$') ++end;
    if (end >= text_.size() || text_[end] != '$') return false;
    *tag = text_.substr(at_, end + 1 - at_);
    return true;
  }

  bool AtArrayBrackets() const {
    // "integer[]" and "integer[3]" are types of arrays, "[name]" is an identifier.
    size_t end = at_ + 1;
    while (end < text_.size() && absl::ascii_isdigit(static_cast<unsigned char>(text_[end]))) {
      ++end;
    }
    return end < text_.size() && text_[end] == ']';
  }

  // Rows after "COPY … FROM stdin;", up to "\.".
  void SkipCopiedRows() {
    size_t first = tokens_.size() - 1;
    while (first > 0 && !tokens_[first - 1].Is(";")) --first;
    if (!tokens_[first].Is("COPY") || tokens_.size() < 3 ||
        std::none_of(tokens_.begin() + static_cast<std::ptrdiff_t>(first), tokens_.end(),
                     [](const DdlToken& token) { return token.Is("STDIN"); })) {
      return;
    }
    while (at_ < text_.size()) {
      Advance(1);
      if (At("\\.")) break;
      SkipLine();
    }
    SkipLine();
  }

  absl::Status Next() {
    const char c = text_[at_];
    const size_t line = line_;
    if (absl::ascii_isspace(static_cast<unsigned char>(c))) {
      Advance(1);
    } else if (At("--") || c == '\\') {
      SkipLine();
    } else if (At("/*")) {
      return SkipComment();
    } else if (c == '\'') {
      return ReadQuoted('\'', false, DdlToken::kString);
    } else if ((c == 'E' || c == 'e') && at_ + 1 < text_.size() && text_[at_ + 1] == '\'') {
      Advance(1);
      return ReadQuoted('\'', true, DdlToken::kString);
    } else if (c == '"' || c == '`') {
      return ReadQuoted(c, false, DdlToken::kQuotedIdentifier);
    } else if (c == '[' && !AtArrayBrackets()) {
      return ReadQuoted(']', false, DdlToken::kQuotedIdentifier);
    } else if (std::string_view tag; c == '$' && AtDollarQuote(&tag)) {
      const size_t end = text_.find(tag, at_ + tag.size());
      if (end == std::string_view::npos) return Unended("a dollar-quoted string", line);
      Push(DdlToken::kString, std::string(text_.substr(at_ + tag.size(), end - at_ - tag.size())),
           line);
      Advance(end + tag.size() - at_);
    } else if (IsWordStart(c)) {
      size_t end = at_;
      while (end < text_.size() && IsWordPart(text_[end])) ++end;
      Push(DdlToken::kWord, std::string(text_.substr(at_, end - at_)), line);
      at_ = end;
    } else if (absl::ascii_isdigit(static_cast<unsigned char>(c))) {
      size_t end = at_;
      while (end < text_.size() && (IsWordPart(text_[end]) || text_[end] == '.')) ++end;
      Push(DdlToken::kNumber, std::string(text_.substr(at_, end - at_)), line);
      at_ = end;
    } else {
      Push(DdlToken::kSymbol, std::string(1, c), line);
      Advance(1);
      if (c == ';') SkipCopiedRows();
    }
    return absl::OkStatus();
  }

  const std::string_view text_;
  const std::string_view source_;
  size_t at_ = 0;
  size_t line_ = 1;
  std::vector<DdlToken> tokens_;
};

}  // namespace

bool DdlToken::Is(std::string_view what) const {
  return (kind == kWord && absl::EqualsIgnoreCase(text, ToAbsl(what))) ||
         (kind == kSymbol && text == what);
}

absl::StatusOr<std::vector<DdlToken>> DdlTokens(std::string_view text, std::string_view source) {
  if (const size_t bad = FindInvalidUtf8(text); bad != std::string_view::npos) {
    const auto line =
        1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(bad), '\n');
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(source), ":", line, ": is not valid UTF-8"));
  }
  return Tokenizer(text, source).Run();
}

}  // namespace octogate::schema
