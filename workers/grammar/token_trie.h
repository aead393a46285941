// The tokens of a vocabulary as bytes, and the tree of their common beginnings.
#ifndef OCTOGATE_WORKERS_GRAMMAR_TOKEN_TRIE_H_
#define OCTOGATE_WORKERS_GRAMMAR_TOKEN_TRIE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace octogate::workers {

struct TokenVocabulary {
  static constexpr size_t kMaxTokens = size_t{1} << 22;
  static constexpr size_t kMaxTokenBytes = 4096;

  // What each token adds to a text, by id. Empty: nothing that a grammar can see, as for special
  // tokens; such a token never conforms to one.
  std::vector<std::string> bytes;
  // The tokens that end an answer.
  std::vector<int32_t> end_ids;
};

// Immutable.
class TokenTrie {
 public:
  // A node stands for the bytes on the way to it. Nodes are in depth-first order, children by byte.
  struct Node {
    uint32_t skip = 0;         // the first node that is not below this one
    uint32_t first_token = 0;  // in tokens(); those of a node end where the next node's begin
    uint16_t depth = 0;        // of the root 0
    uint8_t byte = 0;
  };

  // INVALID_ARGUMENT or RESOURCE_EXHAUSTED for a vocabulary out of bounds.
  static absl::StatusOr<TokenTrie> Create(TokenVocabulary vocabulary);

  // Node 0 is the root. One more than there are, for where the tokens of the last end.
  std::span<const Node> nodes() const { return nodes_; }
  // The i-th of all tokens, in the order of the nodes.
  int32_t token(uint32_t i) const { return tokens_[i]; }
  bool has_children(uint32_t node) const { return nodes_[node].skip > node + 1; }
  int max_depth() const { return max_depth_; }

  std::string_view bytes(int32_t token) const {
    return vocabulary_.bytes[static_cast<size_t>(token)];
  }
  int vocab_size() const { return static_cast<int>(vocabulary_.bytes.size()); }
  std::span<const int32_t> end_ids() const { return vocabulary_.end_ids; }
  bool IsEnd(int32_t token) const;

 private:
  TokenTrie() = default;
  TokenVocabulary vocabulary_;
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;
  int max_depth_ = 0;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_GRAMMAR_TOKEN_TRIE_H_
