// How often each branch of tokens was put in, in bounded memory: counts decay and what is rare is
// dropped where it would be more (lookahead.h).
//
// Thread safety: none.
#ifndef OCTOGATE_WORKERS_SPECULATION_BRANCH_TRIE_H_
#define OCTOGATE_WORKERS_SPECULATION_BRANCH_TRIE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace octogate::workers {

class BranchTrie {
 public:
  struct Node {
    int32_t token = 0;
    int32_t count = 0;
    int32_t first = -1;  // its child that came last
    int32_t next = -1;   // of its parent
  };

  explicit BranchTrie(size_t max_nodes);

  // Counts a branch and all its beginnings. Where that makes too many nodes, all counts are halved,
  // rounded down, and nodes that come to 0 are dropped, until at most half of max_nodes are left:
  // nodes found before are others then.
  void Put(std::span<const int32_t> branch);

  // Node 0 is the root, which stands for nothing.
  const Node& At(int32_t node) const { return nodes_[static_cast<size_t>(node)]; }
  // -1: none; of -1: -1.
  int32_t Child(int32_t node, int32_t token) const;
  int32_t Find(std::span<const int32_t> path) const;
  // Nodes below, counted up to `most`.
  int CountBelow(int32_t node, int most) const;

  size_t size() const { return nodes_.size() - 1; }
  uint64_t bytes() const;

 private:
  static uint64_t Key(int32_t node, int32_t token) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(node)) << 32) |
           static_cast<uint32_t>(token);
  }
  int32_t Add(int32_t parent, int32_t token, int32_t count);
  void Decay();

  size_t max_nodes_;
  std::vector<Node> nodes_;
  absl::flat_hash_map<uint64_t, int32_t> children_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_BRANCH_TRIE_H_
