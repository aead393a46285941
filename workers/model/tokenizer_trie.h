// Searching a text for any of many words.
#ifndef OCTOGATE_WORKERS_MODEL_TOKENIZER_TRIE_H_
#define OCTOGATE_WORKERS_MODEL_TOKENIZER_TRIE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace octogate::workers {

// A set of byte strings, searched leftmost-longest.
//
// Thread safety: const after the last Add.
class Trie {
 public:
  // `word` is not empty; `value` is not negative.
  void Add(std::string_view word, int32_t value);
  bool empty() const { return children_.empty(); }
  // The value and the end of the longest word that starts at `at`; value -1 if there is none.
  struct Match {
    int32_t value = -1;
    size_t end = 0;
  };
  Match LongestAt(std::string_view text, size_t at) const;

 private:
  static uint64_t Key(uint32_t node, char byte) {
    return uint64_t{node} << 8 | static_cast<uint8_t>(byte);
  }
  std::array<bool, 256> starts_{};
  absl::flat_hash_map<uint64_t, uint32_t> children_;
  std::vector<int32_t> values_ = {-1};
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TOKENIZER_TRIE_H_
