#ifndef OCTOGATE_ROUTER_LEXICAL_FEATURES_H_
#define OCTOGATE_ROUTER_LEXICAL_FEATURES_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace octogate::router {

// Of a longer text, the first kLexicalHeadBytes and the last kLexicalTailBytes are read: what is
// asked stands at the beginning or at the end.
inline constexpr size_t kLexicalHeadBytes = size_t{10} << 10;
inline constexpr size_t kLexicalTailBytes = size_t{2} << 10;

// How often one hashed n-gram occurs in a text.
struct LexicalFeature {
  uint32_t bucket;
  uint32_t count;
};

// Counts the hashed n-grams of texts: words and pairs of words, and runs of 3 to 5 characters, over
// the case-folded text with white space collapsed. Words are runs of letters and digits; each
// ideograph is a word of its own, as are the symbols between words. Invalid UTF-8 reads as U+FFFD.
//
// An object is scratch space, for one thread at a time; once its buffers have grown, Extract does
// not allocate. Buckets are equal on every machine.
class LexicalFeatureExtractor {
 public:
  // Buckets are numbers under 2^`hash_bits`; 10 to 22.
  explicit LexicalFeatureExtractor(int hash_bits);

  // The features of `text` in order of first occurrence, valid until the next call.
  absl::Span<const LexicalFeature> Extract(std::string_view text);

 private:
  void Normalize(std::string_view text);
  void AddWords();
  void AddCharacters();
  // Without branches: whether an n-gram is new cannot be predicted.
  void Add(uint64_t hash) {
    const auto bucket = static_cast<uint32_t>(hash >> shift_);
    const uint32_t slot = slots_[bucket];
    const bool is_new = slot == 0;
    const size_t place = is_new ? size_ : slot - 1;
    features_[size_] = {bucket, 0};  // Behind the last one, unless it is new.
    slots_[bucket] = static_cast<uint16_t>(place + 1);
    ++features_[place].count;
    size_ += is_new ? 1 : 0;
  }

  // Three runs and two words end at each character, the spaces at both ends and between the parts
  // included.
  static constexpr size_t kMaxFeatures = 5 * (kLexicalHeadBytes + kLexicalTailBytes + 3);
  static_assert(kMaxFeatures < 65535, "slots have 16 bits");

  const int shift_;
  std::vector<uint32_t> characters_;
  // 1 + the place of a bucket's feature, 0 where it has none.
  std::vector<uint16_t> slots_;
  std::vector<LexicalFeature> features_;  // kMaxFeatures + 1 of them, `size_` in use.
  size_t size_ = 0;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_LEXICAL_FEATURES_H_
