#ifndef OCTOGATE_ROUTER_LEXICAL_FEATURES_H_
#define OCTOGATE_ROUTER_LEXICAL_FEATURES_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace octogate::router {

// Of a longer text, the first kLexicalHeadBytes and the last kLexicalTailBytes are read: what is
// asked stands at the beginning or at the end.
inline constexpr size_t kLexicalHeadBytes = size_t{16} << 10;
inline constexpr size_t kLexicalTailBytes = size_t{4} << 10;

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
  const std::vector<LexicalFeature>& Extract(std::string_view text);

 private:
  void Normalize(std::string_view text);
  void AddWords();
  void AddCharacters();
  void Add(uint64_t hash) {
    const uint32_t bucket = static_cast<uint32_t>(hash >> shift_);
    uint16_t& slot = slots_[bucket];
    if (slot == 0) {
      if (features_.size() == kMaxFeatures) return;
      features_.push_back({bucket, 0});
      slot = static_cast<uint16_t>(features_.size());
    }
    ++features_[slot - 1].count;
  }

  static constexpr size_t kMaxFeatures = 65535;

  const int shift_;
  std::vector<uint32_t> characters_;
  // 1 + the place of a bucket's feature, 0 where it has none.
  std::vector<uint16_t> slots_;
  std::vector<LexicalFeature> features_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_LEXICAL_FEATURES_H_
