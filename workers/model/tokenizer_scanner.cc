#include "workers/model/tokenizer_scanner.h"

#include "workers/model/tokenizer_unicode.h"

namespace octogate::workers {
namespace {

constexpr uint8_t kLetter = CharClasses::kLetter;
constexpr uint8_t kNumber = CharClasses::kNumber;
constexpr uint8_t kSpace = CharClasses::kSpace;

bool IsNewline(char c) { return c == '\r' || c == '\n'; }

uint8_t ClassAt(const CharClasses& classes, const char* p) { return classes.Of(NextCodePoint(p)); }

// The end of the longest run from `p` of characters whose class is `wanted` (0: none of the three).
const char* SkipRun(const CharClasses& classes, const char* p, const char* end, uint8_t wanted) {
  while (p < end) {
    const char* next = p;
    if (classes.Of(NextCodePoint(next)) != wanted) {
      break;
    }
    p = next;
  }
  return p;
}

// 's|'t|'re|'ve|'m|'ll|'d at `p`, which points at an apostrophe; null if there is none.
template <bool kIgnoreCase>
const char* MatchContraction(const char* p, const char* end) {
  const auto letter = [end](const char* at) {
    if (at >= end) {
      return '\0';
    }
    return kIgnoreCase && *at >= 'A' && *at <= 'Z' ? static_cast<char>(*at - 'A' + 'a') : *at;
  };
  switch (letter(p + 1)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return p + 2;
    case 'r':
    case 'v':
      return letter(p + 2) == 'e' ? p + 3 : nullptr;
    case 'l':
      return letter(p + 2) == 'l' ? p + 3 : nullptr;
    case '\xC5':  // U+017F, the long s, folds to s.
      return kIgnoreCase && letter(p + 2) == '\xBF' ? p + 3 : nullptr;
    default:
      return nullptr;
  }
}

// \s+(?!\S)|\s+ where the run of white space is [p, run_end).
const char* MatchSpaces(const char* p, const char* run_end, const char* end) {
  if (run_end == end) {
    return run_end;
  }
  // The run must give its last character back, unless nothing would be left.
  const size_t last = LastCharacterStart({p, static_cast<size_t>(run_end - p)});
  return last > 0 ? p + last : run_end;
}

const char* ScanGpt2(const char* p, const char* end) {
  const CharClasses& classes = CharClasses::Get();
  if (*p == '\'') {
    if (const char* match = MatchContraction<false>(p, end)) {
      return match;
    }
  }
  const uint8_t own = ClassAt(classes, p);
  if (own == kSpace) {
    if (*p == ' ' && p + 1 < end) {
      const uint8_t next = ClassAt(classes, p + 1);
      if (next != kSpace) {
        return SkipRun(classes, p + 1, end, next);
      }
    }
    return MatchSpaces(p, SkipRun(classes, p, end, kSpace), end);
  }
  return SkipRun(classes, p, end, own);
}

template <int kMaxDigits>
const char* ScanTiktoken(const char* p, const char* end) {
  const CharClasses& classes = CharClasses::Get();
  if (*p == '\'') {
    if (const char* match = MatchContraction<true>(p, end)) {
      return match;
    }
  }
  const char* after = p;
  const uint8_t own = classes.Of(NextCodePoint(after));
  // [^\r\n\p{L}\p{N}]?\p{L}+
  if (own == kLetter) {
    return SkipRun(classes, after, end, kLetter);
  }
  const uint8_t next = after < end ? ClassAt(classes, after) : kSpace;
  if (own != kNumber && next == kLetter && !IsNewline(*p)) {
    return SkipRun(classes, after, end, kLetter);
  }
  // \p{N}{1,kMaxDigits}
  if (own == kNumber) {
    for (int digits = 1; digits < kMaxDigits && after < end; ++digits) {
      const char* following = after;
      if (classes.Of(NextCodePoint(following)) != kNumber) {
        break;
      }
      after = following;
    }
    return after;
  }
  // ?[^\s\p{L}\p{N}]+[\r\n]*
  if (own == 0 || (*p == ' ' && next == 0)) {
    const char* match = SkipRun(classes, after, end, 0);
    while (match < end && IsNewline(*match)) {
      ++match;
    }
    return match;
  }
  // \s*[\r\n]+ ends after the last line break of the run of white space.
  const char* run_end = SkipRun(classes, after, end, kSpace);
  for (const char* q = run_end; q > p; --q) {
    if (IsNewline(q[-1])) {
      return q;
    }
  }
  return MatchSpaces(p, run_end, end);
}

}  // namespace

Scanner FindScanner(std::string_view pattern) {
  if (pattern == kGpt2Pattern) {
    return &ScanGpt2;
  }
  if (pattern == kLlama3Pattern) {
    return &ScanTiktoken<3>;
  }
  if (pattern == kQwen2Pattern) {
    return &ScanTiktoken<1>;
  }
  return nullptr;
}

}  // namespace octogate::workers
