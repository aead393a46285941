#ifndef OCTOGATE_ROUTER_LEXICAL_FEATURES_H_
#define OCTOGATE_ROUTER_LEXICAL_FEATURES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace octogate::router {

// Of a longer text, the first kLexicalHeadBytes and the last kLexicalTailBytes are read: what is
// asked stands at the beginning or at the end.
inline constexpr size_t kLexicalHeadBytes = size_t{10} << 10;
inline constexpr size_t kLexicalTailBytes = size_t{2} << 10;

// A word of a text, or a pair of neighbouring words.
struct LexicalTerm {
  uint64_t hash;    // Never 0.
  uint32_t count;   // How often the text has it.
  uint32_t begin;   // Where a word's characters are in the extractor, or those of a pair's second.
  uint32_t length;  // Of a word, in characters; of a pair, 0.
  uint32_t slot;    // The extractor's own.
};

// Reads texts as words and pairs of words, and words as runs of characters.
//
// Case is folded. Words are runs of letters and digits; each ideograph is a word of its own, as are
// the symbols between words; white space only separates. Invalid UTF-8 reads as U+FFFD.
//
// An object is scratch space, for one thread at a time; once its buffers have grown, it does not
// allocate. Hashes are equal on every machine; two terms with the same one are taken as equal.
class LexicalFeatureExtractor {
 public:
  static constexpr size_t kMaxRunWord = 64;
  // More runs than a word can have.
  static constexpr size_t kMaxRuns = 2 * kMaxRunWord;

  LexicalFeatureExtractor();

  // The terms of `text` in order of first occurrence, valid until the next call.
  absl::Span<const LexicalTerm> Extract(std::string_view text);

  // Hashes of the runs of 3 and 4 characters in a word of the last text, the spaces before and
  // behind it included, valid until the next call. Words of one character and pairs have none; of a
  // long word, the first kMaxRunWord characters are read.
  absl::Span<const uint64_t> Runs(const LexicalTerm& term);

  // For people. Extract that also finds where each word of the text begins among its characters,
  // and, for as long as its terms are valid: a term as it was read, case folded. A pair has a space
  // between its words, and "^" in place of the first where the second is the text's first.
  absl::Span<const LexicalTerm> Extract(std::string_view text, std::vector<uint32_t>* words);
  std::string NameOf(const LexicalTerm& term, const std::vector<uint32_t>& words) const;
  // In the order of Runs, a space for the end of a word.
  std::vector<std::string> RunNames(const LexicalTerm& term) const;

 private:
  void Read(std::string_view text);
  void Add(uint64_t hash, uint32_t begin, uint32_t length);

  std::vector<uint32_t> characters_;
  std::vector<LexicalTerm> terms_;
  // A hash table with linear probing: 1 + the place of a term, 0 where there is none. Of a short
  // text only the beginning is used, which stays in the nearest cache.
  std::vector<uint16_t> slots_;
  int slot_bits_ = 0;
  uint64_t last_word_ = 0;
  std::vector<uint32_t>* words_ = nullptr;  // where words begin, if somebody wants to know
  uint64_t runs_[kMaxRuns];
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_LEXICAL_FEATURES_H_
