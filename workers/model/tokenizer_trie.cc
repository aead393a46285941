#include "workers/model/tokenizer_trie.h"

namespace octogate::workers {

void Trie::Add(std::string_view word, int32_t value) {
  starts_[static_cast<uint8_t>(word[0])] = true;
  uint32_t node = 0;
  for (const char byte : word) {
    const auto [child, is_new] =
        children_.try_emplace(Key(node, byte), static_cast<uint32_t>(values_.size()));
    if (is_new) {
      values_.push_back(-1);
    }
    node = child->second;
  }
  values_[node] = value;
}

Trie::Match Trie::LongestAt(std::string_view text, size_t at) const {
  Match match;
  if (!starts_[static_cast<uint8_t>(text[at])]) {
    return match;
  }
  uint32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto child = children_.find(Key(node, text[i]));
    if (child == children_.end()) {
      break;
    }
    node = child->second;
    if (values_[node] >= 0) {
      match = {values_[node], i + 1};
    }
  }
  return match;
}

}  // namespace octogate::workers
