#include "router/functional_token.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace octogate::router {
namespace {

constexpr size_t kMaxUnknownTokenBytes = 72;

std::string_view Trim(std::string_view text) {
  return ToStd(absl::StripAsciiWhitespace(ToAbsl(text)));
}

// What looks like a functional token at the beginning of `text`: <word>, where a word has letters,
// digits and a little punctuation. Empty: nothing does.
std::string_view TokenLike(std::string_view text) {
  if (text.empty() || text.front() != '<') return {};
  for (size_t i = 1; i < text.size() && i < kMaxUnknownTokenBytes; ++i) {
    if (text[i] == '>') return i > 1 ? text.substr(0, i + 1) : std::string_view();
    const bool word = absl::ascii_isalnum(text[i]) ||
                      std::string_view("_-:|.").find(text[i]) != std::string_view::npos;
    if (!word) return {};
  }
  return {};
}

std::string Unescape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (text[i] != '\\' || std::string_view("\\'\"nt").find(next) == std::string_view::npos ||
        next == '\0') {
      out.push_back(text[i]);
      continue;
    }
    out.push_back(next == 'n' ? '\n' : next == 't' ? '\t' : next);
    ++i;
  }
  return out;
}

// Takes ( and a quote from the front; returns the quote, or 0 where they are not there.
char TakeOpening(std::string_view* call) {
  if (call->empty() || call->front() != '(') return 0;
  *call = Trim(call->substr(1));
  if (call->empty() || (call->front() != '\'' && call->front() != '"')) return 0;
  const char quote = call->front();
  call->remove_prefix(1);
  return quote;
}

// Takes the quote and ) from the back.
bool TakeClosing(char quote, std::string_view* call) {
  std::string_view rest = Trim(*call);
  if (rest.empty() || rest.back() != ')') return false;
  rest = Trim(rest.substr(0, rest.size() - 1));
  if (rest.empty() || rest.back() != quote) return false;
  *call = call->substr(0, rest.data() + rest.size() - 1 - call->data());
  return true;
}

}  // namespace

absl::StatusOr<FunctionalTokenSyntax> FunctionalTokenSyntax::Create(std::vector<std::string> tokens,
                                                                    std::string end_token,
                                                                    v1::ArgumentStyle style) {
  FunctionalTokenSyntax syntax;
  tokens.push_back(end_token);
  for (const std::string& token : tokens) {
    if (token.empty()) return absl::InvalidArgumentError("a functional token must not be empty");
    if (!syntax.tokens_.insert(token).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("the functional token ", Quoted(token), " is there twice"));
    }
    syntax.lengths_.push_back(token.size());
    syntax.starts_[static_cast<unsigned char>(token.front())] = true;
  }
  std::sort(syntax.lengths_.begin(), syntax.lengths_.end());
  syntax.lengths_.erase(std::unique(syntax.lengths_.begin(), syntax.lengths_.end()),
                        syntax.lengths_.end());
  for (const std::string& token : tokens) {
    for (size_t begin = 0; begin < token.size(); ++begin) {
      const std::string_view inner = syntax.TokenAt(std::string_view(token).substr(begin));
      if (inner.empty() || inner.size() == token.size()) continue;
      return absl::InvalidArgumentError(absl::StrCat("the functional token ", Quoted(token),
                                                     " contains the token ", Quoted(inner)));
    }
  }
  syntax.sorted_ = std::move(tokens);
  std::sort(syntax.sorted_.begin(), syntax.sorted_.end());
  syntax.end_token_ = std::move(end_token);
  syntax.style_ = style;
  return syntax;
}

std::string_view FunctionalTokenSyntax::TokenAt(std::string_view text) const {
  if (text.empty() || !starts_[static_cast<unsigned char>(text.front())]) return {};
  for (const size_t length : lengths_) {
    if (length > text.size()) break;
    if (tokens_.contains(ToAbsl(text.substr(0, length)))) return text.substr(0, length);
  }
  return {};
}

bool FunctionalTokenSyntax::MayBecomeToken(std::string_view text) const {
  if (text.empty() || !starts_[static_cast<unsigned char>(text.front())]) return false;
  const auto next = std::upper_bound(sorted_.begin(), sorted_.end(), text);
  return next != sorted_.end() && std::string_view(*next).starts_with(text);
}

void FunctionalTokenParser::Feed(std::string_view piece) {
  if (done_) return;
  text_.append(piece.substr(0, max_bytes_ - text_.size()));
  Scan();
  if (text_.size() == max_bytes_) done_ = true;
}

void FunctionalTokenParser::Scan() {
  while (scanned_ < text_.size()) {
    const std::string_view rest = std::string_view(text_).substr(scanned_);
    const std::string_view token = syntax_.TokenAt(rest);
    if (token.empty()) {
      if (syntax_.MayBecomeToken(rest)) return;
      ++scanned_;
      continue;
    }
    if (token_ == kNowhere && token != syntax_.end_token()) {
      token_ = scanned_;
      scanned_ += token.size();
      argument_ = scanned_;
      continue;
    }
    close_ = scanned_;
    done_ = true;
    return;
  }
}

FunctionalToken FunctionalTokenParser::Finish() const {
  FunctionalToken result;
  const std::string_view text = text_;
  const std::string_view start = Trim(text.substr(0, std::min(close_, text.size())));
  if (token_ == kNowhere || token_ > 0) {
    const std::string_view leading = Trim(text.substr(0, std::min({token_, close_, text.size()})));
    if (const std::string_view unknown = TokenLike(leading); !unknown.empty()) {
      result.state = FunctionalTokenState::kUnknownToken;
      result.token = unknown;
      result.argument = Trim(start.substr(unknown.size()));
      return result;
    }
    result.leading = leading;
  }
  if (token_ == kNowhere) return result;

  result.token = text.substr(token_, argument_ - token_);
  const bool closed = close_ != kNowhere;
  std::string_view argument = Trim(text.substr(argument_, closed ? close_ - argument_ : kNowhere));
  result.argument = argument;
  if (closed && syntax_.TokenAt(text.substr(close_)) != syntax_.end_token()) {
    result.state = FunctionalTokenState::kMalformed;
    return result;
  }
  result.state = closed ? FunctionalTokenState::kComplete : FunctionalTokenState::kTruncated;
  if (syntax_.style() != v1::ARGUMENT_STYLE_CALL) return result;

  const char quote = TakeOpening(&argument);
  const bool whole = quote != 0 && TakeClosing(quote, &argument);
  if (closed && !whole) {
    result.state = FunctionalTokenState::kMalformed;
  } else {
    result.argument = quote != 0 ? Unescape(argument) : "";
  }
  return result;
}

}  // namespace octogate::router
