#ifndef OCTOGATE_GATEWAY_TOOLS_CLOCK_CURSOR_H_
#define OCTOGATE_GATEWAY_TOOLS_CLOCK_CURSOR_H_

#include <cstddef>
#include <initializer_list>
#include <string_view>

#include "gateway/tools/request_text.h"

namespace octogate::gateway::clock {

// A position in a request. Copies are cheap: a parser that fails leaves its caller's cursor alone.
class Cursor {
 public:
  // At the start of `text`, which lies within `request`; columns count from the request's start.
  Cursor(std::string_view request, std::string_view text) : request_(request), rest_(text) {
    SkipSpaces();
  }

  std::string_view rest() const { return rest_; }
  bool AtEnd() const { return rest_.empty(); }
  int column() const {
    return ColumnOf(request_, static_cast<size_t>(rest_.data() - request_.data()));
  }
  char Peek(size_t ahead = 0) const { return ahead < rest_.size() ? rest_[ahead] : '\0'; }

  // Skips `bytes` and the spaces behind them.
  void Advance(size_t bytes) {
    rest_.remove_prefix(bytes);
    SkipSpaces();
  }
  // Skips `bytes` alone.
  void AdvanceWithin(size_t bytes) { rest_.remove_prefix(bytes); }

  // Whether whole words (or a symbol) come next; takes them if so.
  bool Accept(std::string_view phrase) {
    const size_t length = MatchPhrase(rest_, phrase);
    if (length == 0) return false;
    Advance(length);
    return true;
  }
  bool AcceptAny(std::initializer_list<std::string_view> phrases) {
    for (const std::string_view phrase : phrases) {
      if (Accept(phrase)) return true;
    }
    return false;
  }

  size_t CountDigits(size_t from = 0) const {
    size_t count = 0;
    while (Peek(from + count) >= '0' && Peek(from + count) <= '9') ++count;
    return count;
  }
  // The value of `count` digits (at most 9) at `from`.
  int Digits(size_t from, size_t count) const {
    int value = 0;
    for (size_t i = 0; i < count; ++i) value = value * 10 + (Peek(from + i) - '0');
    return value;
  }

 private:
  void SkipSpaces() {
    while (Peek() == ' ' || (Peek() >= '\t' && Peek() <= '\r')) rest_.remove_prefix(1);
  }

  std::string_view request_;
  std::string_view rest_;
};

}  // namespace octogate::gateway::clock

#endif  // OCTOGATE_GATEWAY_TOOLS_CLOCK_CURSOR_H_
