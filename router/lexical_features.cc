#include "router/lexical_features.h"

#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>

namespace octogate::router {
namespace {

// A code point and what it is.
constexpr uint32_t kCodePoint = 0x1FFFFF;
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

void AppendUtf8(const uint32_t* begin, const uint32_t* end, std::string* text) {
  for (; begin != end; ++begin) {
    char bytes[U8_MAX_LENGTH];
    int32_t size = 0;
    U8_APPEND_UNSAFE(bytes, size, *begin);
    text->append(bytes, static_cast<size_t>(size));
  }
}

// A word and a pair for each character, and the table at most three quarters full.
constexpr size_t kMaxTerms = 2 * (kLexicalHeadBytes + kLexicalTailBytes);
constexpr int kMaxSlotBits = 15;
static_assert(kMaxTerms <= (size_t{3} << kMaxSlotBits) / 4);
// Of a text of 0 bytes, whose table is never full either.
constexpr int kMinSlotBits = 4;

// What the terms of a text fit in.
int SlotBits(size_t bytes) {
  const size_t terms = std::min(2 * bytes, kMaxTerms);
  int bits = kMinSlotBits;
  while (terms > (size_t{3} << bits) / 4) ++bits;
  return bits;
}

}  // namespace

LexicalFeatureExtractor::LexicalFeatureExtractor() : slots_(size_t{1} << kMaxSlotBits) {}

absl::Span<const LexicalTerm> LexicalFeatureExtractor::Extract(std::string_view text) {
  for (const LexicalTerm& term : terms_) slots_[term.slot] = 0;
  terms_.clear();
  characters_.clear();
  last_word_ = kWordSeed;
  slot_bits_ = SlotBits(text.size());
  if (text.size() <= kLexicalHeadBytes + kLexicalTailBytes) {
    Read(text);
  } else {
    Read(text.substr(0, kLexicalHeadBytes));
    Read(text.substr(text.size() - kLexicalTailBytes));
  }
  return terms_;
}

absl::Span<const LexicalTerm> LexicalFeatureExtractor::Extract(std::string_view text,
                                                               std::vector<uint32_t>* words) {
  words->clear();
  words_ = words;
  const absl::Span<const LexicalTerm> terms = Extract(text);
  words_ = nullptr;
  return terms;
}

std::string LexicalFeatureExtractor::NameOf(const LexicalTerm& term,
                                            const std::vector<uint32_t>& words) const {
  std::string name;
  const uint32_t* const characters = characters_.data();
  if (term.length > 0) {
    AppendUtf8(characters + term.begin, characters + term.begin + term.length, &name);
    return name;
  }
  const auto second = std::lower_bound(words.begin(), words.end(), term.begin);
  if (second == words.end()) return name;
  const size_t end = second + 1 == words.end() ? characters_.size() : *(second + 1);
  if (second == words.begin()) {
    name = "^";
  } else {
    AppendUtf8(characters + *(second - 1), characters + *second, &name);
  }
  name += ' ';
  AppendUtf8(characters + *second, characters + end, &name);
  return name;
}

void LexicalFeatureExtractor::Read(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  const auto size = static_cast<int32_t>(text.size());
  size_t end = characters_.size();
  characters_.resize(end + text.size());
  size_t begin = end;
  uint64_t word = kWordSeed;
  const auto end_word = [&] {
    Add(Finish(word), static_cast<uint32_t>(begin), static_cast<uint32_t>(end - begin));
    Add(Finish(Mix(last_word_ * kMultiplier, word)), static_cast<uint32_t>(begin), 0);
    if (words_ != nullptr) words_->push_back(static_cast<uint32_t>(begin));
    last_word_ = word;
    word = kWordSeed;
    begin = end;
  };
  for (int32_t i = 0; i < size;) {
    uint32_t character;
    if (bytes[i] < 128) {
      character = kAscii[bytes[i++]];
    } else {
      UChar32 c;
      U8_NEXT(bytes, i, size, c);
      character = c < 0 ? kReplacement | kAlone : Classify(c);
    }
    if ((character & kWord) != 0) {
      word = Mix(word, character);
      characters_[end++] = character & kCodePoint;
      continue;
    }
    if (end > begin) end_word();
    if ((character & kAlone) != 0) {
      word = Mix(word, character);
      characters_[end++] = character & kCodePoint;
      end_word();
    }
  }
  if (end > begin) end_word();
  characters_.resize(end);
}

void LexicalFeatureExtractor::Add(uint64_t hash, uint32_t begin, uint32_t length) {
  hash |= 1;
  const uint32_t mask = (uint32_t{1} << slot_bits_) - 1;
  auto slot = static_cast<uint32_t>(hash >> (64 - slot_bits_));
  while (slots_[slot] != 0) {
    LexicalTerm& term = terms_[slots_[slot] - 1];
    if (term.hash == hash) {
      ++term.count;
      return;
    }
    slot = (slot + 1) & mask;
  }
  terms_.push_back({hash, 1, begin, length, slot});
  slots_[slot] = static_cast<uint16_t>(terms_.size());
}

absl::Span<const uint64_t> LexicalFeatureExtractor::Runs(const LexicalTerm& term) {
  if (term.length < 2) return {};
  const size_t length = std::min<size_t>(term.length, kMaxRunWord);
  uint32_t padded[kMaxRunWord + 2];
  padded[0] = padded[length + 1] = ' ';
  std::copy_n(characters_.begin() + term.begin, length, padded + 1);
  const size_t size = length + 2;
  size_t count = 0;
  for (size_t i = 0; i + 3 <= size; ++i) {
    uint64_t hash = Mix(kCharacterSeed, padded[i]);
    hash = Mix(Mix(hash, padded[i + 1]), padded[i + 2]);
    runs_[count++] = Finish(hash);
    if (i + 4 <= size) runs_[count++] = Finish(Mix(hash, padded[i + 3]));
  }
  return absl::MakeConstSpan(runs_, count);
}

std::vector<std::string> LexicalFeatureExtractor::RunNames(const LexicalTerm& term) const {
  std::vector<std::string> names;
  if (term.length < 2) return names;
  const size_t length = std::min<size_t>(term.length, kMaxRunWord);
  std::vector<uint32_t> padded(length + 2, ' ');
  std::copy_n(characters_.begin() + term.begin, length, padded.begin() + 1);
  for (size_t i = 0; i + 3 <= padded.size(); ++i) {
    AppendUtf8(&padded[i], &padded[i] + 3, &names.emplace_back());
    if (i + 4 <= padded.size()) AppendUtf8(&padded[i], &padded[i] + 4, &names.emplace_back());
  }
  return names;
}

}  // namespace octogate::router
