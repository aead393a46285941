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

namespace octogate::workers {

class BranchTrie {
 public:
  struct Node {
    int32_t token = 0;
    int32_t parent = -1;
    int32_t first = -1;     // its child that came last
    int32_t next = -1;      // of its parent, the one that came before
    int32_t previous = -1;  // the one that came after
    // What BranchTrie alone uses.
    int32_t same_hash = -1;
    int32_t count = 0;  // before some halvings: see Count
    uint32_t halvings = 0;
  };

  explicit BranchTrie(size_t max_nodes);

  // Counts a branch and all its beginnings. Where nodes become many a decay begins: at once all
  // counts are halved, rounded down; then Put by Put nodes that have come to 0 and were not counted
  // again are dropped, so fast that there is room until all have been looked at. That is repeated
  // until at most half of max_nodes are left. Nodes found before may be others then.
  //
  // So it takes time in proportion to the branch, amortised as long as the trie grows, except where
  // decays drop so little that there is no room before they end. Of a branch longer than max_nodes
  // the rest is not counted.
  void Put(std::span<const int32_t> branch);

  // Node 0 is the root, which stands for nothing.
  const Node& At(int32_t node) const { return nodes_[static_cast<size_t>(node)]; }
  // How often it was put in, after decay. 0: to be dropped. Not of the root.
  int32_t Count(int32_t node) const {
    return At(node).count >> (halvings_ - At(node).halvings);  // at most one that it has not seen
  }
  // -1: none; of -1: -1.
  int32_t Child(int32_t node, int32_t token) const;
  int32_t Find(std::span<const int32_t> path) const;
  // Nodes below, counted up to `most`.
  int CountBelow(int32_t node, int most) const;

  size_t size() const { return size_; }
  // Times that all counts were halved. Only at the beginning of a Put.
  uint32_t halvings() const { return halvings_; }
  uint64_t bytes() const;

 private:
  Node& Of(int32_t node) { return nodes_[static_cast<size_t>(node)]; }
  size_t BucketOf(int32_t parent, int32_t token) const;
  int32_t Add(int32_t parent, int32_t token);
  void Drop(int32_t node);
  void Rehash(size_t buckets);
  void BeginDecay();
  // Looks at so many nodes, in order, unless the decay ends before.
  void Decay(size_t count);
  bool decays() const { return next_ < nodes_.size(); }

  size_t max_nodes_;
  size_t size_ = 0;
  std::vector<Node> nodes_;       // those that are not in use have no parent, as the root
  std::vector<int32_t> buckets_;  // first nodes with a hash of parent and token
  std::vector<int32_t> free_;
  // Dropped in this decay: some nodes may still have them as parents.
  std::vector<int32_t> dropped_;
  uint32_t halvings_ = 0;
  size_t next_ = 0;     // node that the decay looks at; behind the last one: there is no decay
  bool again_ = false;  // the next Put begins one
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_BRANCH_TRIE_H_
