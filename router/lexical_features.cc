#include "router/lexical_features.h"

#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>

namespace octogate::router {
namespace {

// What `characters_` holds: a code point and what it is.
constexpr uint32_t kWord = uint32_t{1} << 31;   // Part of a word.
constexpr uint32_t kAlone = uint32_t{1} << 30;  // A word of its own.
constexpr uint32_t kReplacement = 0xFFFD;

// Multiplying by an odd constant moves what was mixed in towards the high bits, which become the
// bucket. The constants are the fractions of the golden ratio and of two square roots.
constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15;
constexpr uint64_t kCharacterSeed = 0x6A09E667F3BCC908;
constexpr uint64_t kWordSeed = 0xBB67AE8584CAA73B;

uint64_t Mix(uint64_t hash, uint64_t value) { return (hash ^ value) * kMultiplier; }

// Folds what the last multiplications have not yet moved up.
uint64_t Finish(uint64_t hash) { return (hash ^ (hash >> 32)) * kMultiplier; }

constexpr std::array<uint32_t, 128> MakeAsciiTable() {
  std::array<uint32_t, 128> table{};
  for (uint32_t c = 0; c < 128; ++c) {
    const bool upper = c >= 'A' && c <= 'Z';
    const bool word = upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (word) {
      table[c] = (upper ? c + 32 : c) | kWord;
    } else if (c <= ' ' || c == 127) {
      table[c] = ' ';
    } else {
      table[c] = c | kAlone;
    }
  }
  return table;
}
constexpr std::array<uint32_t, 128> kAscii = MakeAsciiTable();

// Scripts written without spaces between words.
bool HasNoSpaces(UScriptCode script) {
  switch (script) {
    case USCRIPT_HAN:
    case USCRIPT_HIRAGANA:
    case USCRIPT_KATAKANA:
    case USCRIPT_THAI:
    case USCRIPT_LAO:
    case USCRIPT_KHMER:
    case USCRIPT_MYANMAR:
      return true;
    default:
      return false;
  }
}

uint32_t Classify(UChar32 c) {
  if (u_isUWhiteSpace(c)) return ' ';
  const auto folded = static_cast<uint32_t>(u_foldCase(c, U_FOLD_CASE_DEFAULT));
  UErrorCode error = U_ZERO_ERROR;
  if (HasNoSpaces(uscript_getScript(c, &error))) return folded | kAlone;
  const bool mark = (U_GET_GC_MASK(c) & U_GC_M_MASK) != 0;
  return folded | (u_isalnum(c) || mark ? kWord : kAlone);
}

}  // namespace

LexicalFeatureExtractor::LexicalFeatureExtractor(int hash_bits)
    : shift_(64 - hash_bits), slots_(size_t{1} << hash_bits), features_(kMaxFeatures + 1) {}

absl::Span<const LexicalFeature> LexicalFeatureExtractor::Extract(std::string_view text) {
  for (size_t i = 0; i < size_; ++i) slots_[features_[i].bucket] = 0;
  size_ = 0;
  characters_.clear();
  characters_.push_back(' ');
  if (text.size() <= kLexicalHeadBytes + kLexicalTailBytes) {
    Normalize(text);
  } else {
    Normalize(text.substr(0, kLexicalHeadBytes));
    if (characters_.back() != ' ') characters_.push_back(' ');
    Normalize(text.substr(text.size() - kLexicalTailBytes));
  }
  if (characters_.back() != ' ') characters_.push_back(' ');
  AddWords();
  AddCharacters();
  return absl::MakeConstSpan(features_.data(), size_);
}

void LexicalFeatureExtractor::Normalize(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  const auto size = static_cast<int32_t>(text.size());
  for (int32_t i = 0; i < size;) {
    uint32_t character;
    if (bytes[i] < 128) {
      character = kAscii[bytes[i++]];
    } else {
      UChar32 c;
      U8_NEXT(bytes, i, size, c);
      character = c < 0 ? kReplacement | kAlone : Classify(c);
    }
    if (character == ' ' && characters_.back() == ' ') continue;
    characters_.push_back(character);
  }
}

void LexicalFeatureExtractor::AddWords() {
  uint64_t last = kWordSeed;
  for (size_t i = 0; i < characters_.size();) {
    if ((characters_[i] & (kWord | kAlone)) == 0) {
      ++i;
      continue;
    }
    uint64_t word = kWordSeed;
    if ((characters_[i] & kAlone) != 0) {
      word = Mix(word, characters_[i++]);
    } else {
      while ((characters_[i] & kWord) != 0) word = Mix(word, characters_[i++]);
    }
    Add(Finish(word));
    Add(Finish(Mix(last, word)));
    last = word;
  }
}

void LexicalFeatureExtractor::AddCharacters() {
  // No run spans the end: the text begins and ends with a space.
  const size_t size = characters_.size();
  for (size_t i = 0; i + 3 <= size; ++i) {
    uint64_t hash = Mix(kCharacterSeed, characters_[i]);
    hash = Mix(Mix(hash, characters_[i + 1]), characters_[i + 2]);
    Add(Finish(hash));
    if (i + 4 > size) continue;
    hash = Mix(hash, characters_[i + 3]);
    Add(Finish(hash));
    if (i + 5 > size) continue;
    Add(Finish(Mix(hash, characters_[i + 4])));
  }
}

}  // namespace octogate::router
