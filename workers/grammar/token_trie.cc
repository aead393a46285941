#include "workers/grammar/token_trie.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace octogate::workers {

absl::StatusOr<TokenTrie> TokenTrie::Create(TokenVocabulary vocabulary) {
  if (vocabulary.bytes.empty() || vocabulary.bytes.size() > TokenVocabulary::kMaxTokens) {
    return absl::InvalidArgumentError(absl::StrCat("a vocabulary of ", vocabulary.bytes.size(),
                                                   " tokens; there must be from 1 to ",
                                                   TokenVocabulary::kMaxTokens));
  }
  TokenTrie trie;
  trie.vocabulary_ = std::move(vocabulary);
  const std::vector<std::string>& bytes = trie.vocabulary_.bytes;
  for (const int32_t id : trie.vocabulary_.end_ids) {
    if (id < 0 || static_cast<size_t>(id) >= bytes.size()) {
      return absl::InvalidArgumentError(absl::StrCat("the end-of-sequence token ", id,
                                                     " is not in the vocabulary of ", bytes.size(),
                                                     " tokens"));
    }
  }
  std::vector<int32_t> order;
  for (size_t id = 0; id < bytes.size(); ++id) {
    if (bytes[id].size() > TokenVocabulary::kMaxTokenBytes) {
      return absl::ResourceExhaustedError(absl::StrCat("the token ", id, " has ", bytes[id].size(),
                                                       " bytes; the limit is ",
                                                       TokenVocabulary::kMaxTokenBytes));
    }
    if (!bytes[id].empty() && !trie.IsEnd(static_cast<int32_t>(id))) {
      order.push_back(static_cast<int32_t>(id));
    }
  }
  const auto text = [&](int32_t id) -> const std::string& {
    return bytes[static_cast<size_t>(id)];
  };
  // std::string compares bytes as unsigned.
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return text(a) < text(b); });
  trie.nodes_.push_back({});
  std::vector<uint32_t> path = {0};  // the nodes to the last token
  const auto leave = [&](size_t depth) {
    for (; path.size() > depth + 1; path.pop_back()) {
      trie.nodes_[path.back()].skip = static_cast<uint32_t>(trie.nodes_.size());
    }
  };
  for (size_t i = 0; i < order.size(); ++i) {
    const std::string& token = text(order[i]);
    size_t common = 0;
    if (i > 0) {
      const std::string& last = text(order[i - 1]);
      common = static_cast<size_t>(
          std::mismatch(token.begin(), token.end(), last.begin(), last.end()).first -
          token.begin());
    }
    leave(common);
    for (size_t at = common; at < token.size(); ++at) {
      path.push_back(static_cast<uint32_t>(trie.nodes_.size()));
      trie.nodes_.push_back({.first_token = static_cast<uint32_t>(trie.tokens_.size()),
                             .depth = static_cast<uint16_t>(at + 1),
                             .byte = static_cast<uint8_t>(token[at])});
    }
    trie.max_depth_ = std::max(trie.max_depth_, static_cast<int>(token.size()));
    trie.tokens_.push_back(order[i]);
  }
  leave(0);
  trie.nodes_[0].skip = static_cast<uint32_t>(trie.nodes_.size());
  trie.nodes_.push_back({.skip = static_cast<uint32_t>(trie.nodes_.size() + 1),
                         .first_token = static_cast<uint32_t>(trie.tokens_.size())});
  return trie;
}

bool TokenTrie::IsEnd(int32_t token) const {
  const std::vector<int32_t>& ids = vocabulary_.end_ids;
  return std::find(ids.begin(), ids.end(), token) != ids.end();
}

}  // namespace octogate::workers
