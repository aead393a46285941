#include "retrieval/schema/words.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <cstdint>

#include "absl/container/flat_hash_set.h"

namespace octogate::schema {
namespace {

enum class Kind { kOther, kLower, kUpper, kDigit, kIdeograph };

Kind KindOf(UChar32 c) {
  if (c < 0) return Kind::kOther;
  if (c < 0x80) {
    if (c >= 'a' && c <= 'z') return Kind::kLower;
    if (c >= 'A' && c <= 'Z') return Kind::kUpper;
    if (c >= '0' && c <= '9') return Kind::kDigit;
    return Kind::kOther;
  }
  if (u_hasBinaryProperty(c, UCHAR_IDEOGRAPHIC)) return Kind::kIdeograph;
  if (u_isdigit(c)) return Kind::kDigit;
  if (u_isupper(c)) return Kind::kUpper;
  if (u_isalpha(c) || u_charType(c) == U_NON_SPACING_MARK) return Kind::kLower;
  return Kind::kOther;
}

void AppendLower(UChar32 c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c));
    return;
  }
  uint8_t bytes[U8_MAX_LENGTH];
  int32_t length = 0;
  UBool error = false;
  U8_APPEND(bytes, length, U8_MAX_LENGTH, u_tolower(c), error);
  if (!error) out->append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

// The character that ends at or after `at`, which moves past it; negative where it is not valid.
UChar32 Next(std::string_view text, int64_t* at) {
  UChar32 c = 0;
  U8_NEXT(text.data(), *at, static_cast<int64_t>(text.size()), c);
  return c;
}

bool EndsWith(std::string_view word, std::string_view suffix) {
  return word.size() > suffix.size() && word.substr(word.size() - suffix.size()) == suffix;
}

bool IsVowel(char c) { return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u'; }

bool HasVowel(std::string_view word) {
  for (const char c : word) {
    if (IsVowel(c) || c == 'y') return true;
  }
  return false;
}

}  // namespace

std::vector<std::string> SplitWords(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  Kind previous = Kind::kOther;
  bool after_apostrophe = false;
  const auto flush = [&] {
    if (!word.empty() && !(after_apostrophe && word == "s")) words.push_back(word);
    if (!word.empty()) after_apostrophe = false;
    word.clear();
  };
  int64_t at = 0;
  while (at < static_cast<int64_t>(text.size())) {
    const UChar32 c = Next(text, &at);
    const Kind kind = KindOf(c);
    if (kind == Kind::kOther) {
      const bool had_word = !word.empty();
      flush();
      after_apostrophe = had_word && (c == '\'' || c == 0x2019);
    } else {
      bool starts_word = false;
      if (kind == Kind::kIdeograph || previous == Kind::kIdeograph) {
        starts_word = true;
      } else if ((kind == Kind::kDigit) != (previous == Kind::kDigit)) {
        starts_word = true;
      } else if (kind == Kind::kUpper) {
        if (previous == Kind::kLower) {
          starts_word = true;
        } else if (previous == Kind::kUpper && at < static_cast<int64_t>(text.size())) {
          // The last capital of a run begins the word after it: "HTTPServer". A lone "s" after
          // capitals is a plural: "IDs".
          int64_t ahead = at;
          if (KindOf(Next(text, &ahead)) == Kind::kLower) {
            const bool plural = text[static_cast<size_t>(at)] == 's' &&
                                (ahead == static_cast<int64_t>(text.size()) ||
                                 (KindOf(Next(text, &ahead)) != Kind::kLower));
            starts_word = !plural;
          }
        }
      }
      if (starts_word) flush();
      AppendLower(c, &word);
    }
    previous = kind;
  }
  flush();
  return words;
}

std::string Stem(std::string_view word) {
  std::string stem(word);
  if (stem.size() <= 3) return stem;
  for (const char c : stem) {
    if (c < 'a' || c > 'z') return stem;
  }
  if (EndsWith(stem, "ies") && stem.size() > 4) {
    stem.replace(stem.size() - 3, 3, "y");
  } else if (EndsWith(stem, "sses") || EndsWith(stem, "ches") || EndsWith(stem, "shes") ||
             EndsWith(stem, "xes") || EndsWith(stem, "zes")) {
    stem.resize(stem.size() - 2);
  } else if (EndsWith(stem, "s") && !EndsWith(stem, "ss") && !EndsWith(stem, "us") &&
             !EndsWith(stem, "is")) {
    stem.resize(stem.size() - 1);
  }
  for (const std::string_view suffix : {"ing", "ed"}) {
    if (!EndsWith(stem, suffix)) continue;
    const std::string_view root = std::string_view(stem).substr(0, stem.size() - suffix.size());
    if (root.size() < 3 || !HasVowel(root)) break;
    stem.resize(root.size());
    const size_t n = stem.size();
    if (n >= 4 && stem[n - 1] == stem[n - 2] && !IsVowel(stem[n - 1]) && stem[n - 1] != 'l' &&
        stem[n - 1] != 's') {
      stem.pop_back();
    }
    break;
  }
  if (stem.size() > 3 && stem.back() == 'e') stem.pop_back();
  if (stem.size() > 3 && stem.back() == 'y') stem.back() = 'i';
  return stem;
}

bool IsStopWord(std::string_view word) {
  static const auto* const words = new absl::flat_hash_set<std::string_view>({
      "a",      "about", "all",   "also",   "among", "an",     "and",     "any",     "are",
      "as",     "at",    "be",    "been",   "by",    "can",    "could",   "did",     "do",
      "does",   "each",  "every", "find",   "for",   "from",   "get",     "give",    "given",
      "had",    "has",   "have",  "having", "how",   "i",      "if",      "in",      "indicate",
      "into",   "is",    "it",    "its",    "list",  "many",   "me",      "mention", "much",
      "of",     "on",    "or",    "our",    "out",   "please", "provide", "refer",   "refers",
      "return", "shall", "show",  "so",     "some",  "such",   "tell",    "than",    "that",
      "the",    "their", "them",  "then",   "there", "these",  "they",    "this",    "those",
      "to",     "us",    "was",   "we",     "were",  "what",   "when",    "where",   "which",
      "who",    "whom",  "whose", "will",   "with",  "would",  "you",     "your",
  });
  return words->contains(word);
}

std::string Squash(std::string_view text) {
  std::string squashed;
  squashed.reserve(text.size());
  int64_t at = 0;
  while (at < static_cast<int64_t>(text.size())) {
    const UChar32 c = Next(text, &at);
    if (KindOf(c) != Kind::kOther) AppendLower(c, &squashed);
  }
  return squashed;
}

}  // namespace octogate::schema
