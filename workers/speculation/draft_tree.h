// What is proposed to follow a sequence, as a prefix tree: one pass of the model verifies all of it
// (Miao et al. 2023, "SpecInfer", arXiv:2305.09781).
//
// Node i stands for a token after those of its ancestors. The root, which has no node, is the last
// token of the sequence, whose row every pass has anyway.
#ifndef OCTOGATE_WORKERS_SPECULATION_DRAFT_TREE_H_
#define OCTOGATE_WORKERS_SPECULATION_DRAFT_TREE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace octogate::workers {

// Rows of a tree that a pass can verify, less that of the root (kernels::kMaxTreeRows).
inline constexpr int kMaxDraftNodes = 127;
// Drafters of one model. Bit d of DraftNode::drafters stands for the d-th of them.
inline constexpr int kMaxDrafters = 8;

struct DraftNode {
  int32_t token = 0;
  int32_t parent = -1;    // a node before this one; -1: the root
  int32_t depth = 1;      // tokens from the root
  float probability = 0;  // expected share of times that the token follows, if its parent is right
  uint8_t drafters = 0;   // who proposed it
  uint8_t rank = 0;       // siblings of the same drafter that are at least as probable; at most 255
};

// No two siblings have the same token.
struct DraftTree {
  std::vector<DraftNode> nodes;

  int size() const { return static_cast<int>(nodes.size()); }
  bool empty() const { return nodes.empty(); }

  // The child of `parent` (-1: the root) with this token, or -1.
  int Child(int parent, int32_t token) const;
  // Adds a child with depth and rank that follow from the tree, or returns the one that is there.
  // The tree may have any size.
  int Add(int parent, int32_t token, float probability, uint8_t drafters);
};

// Makes a tree as DraftTree::Add does, of siblings with tokens of their own, in time that does not
// depend on its size where siblings come with falling probabilities. The tree is empty at first.
class DraftTreeBuilder {
 public:
  explicit DraftTreeBuilder(DraftTree& tree) : tree_(tree) {}

  // At most kMaxDraftNodes.
  int Add(int parent, int32_t token, float probability, uint8_t drafters);

 private:
  // Of a node, [0] being the root.
  struct Children {
    int count = 0;
    float least = 2;  // probability of these
  };

  DraftTree& tree_;
  std::array<Children, kMaxDraftNodes + 1> children_;
};

// INVALID_ARGUMENT where a parent is not before its node, a depth is wrong, siblings share a token,
// a probability is not in [0, 1], there are more than kMaxDraftNodes, or a token is not in
// [0, vocab_size).
absl::Status CheckDraftTree(const DraftTree& tree, int vocab_size);

// Leaves the `count` nodes with the largest probability of their whole path, and of equals the
// first. That is a tree: no node is more probable than its parent.
void PruneDraftTree(int count, DraftTree& tree);

// Drops from `retrieved` what `draft` finds improbable, with all that follows it, as RASD does
// (Quan et al. 2025, arXiv:2503.03434). `draft` has a distribution wherever it has children: a
// child's probability is known, that of any other token is at most what the children leave of 1. A
// retrieved node goes where that is below `epsilon`. Below the draft's leaves, and beside its
// paths, there is no distribution, and all is kept.
void PruneByDraft(const DraftTree& draft, float epsilon, DraftTree& retrieved);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_DRAFT_TREE_H_
