// Shapes of draft trees by rank alone: which candidates of which nodes are drafted, whatever their
// tokens are (Token Recycling, arXiv:2408.08696, section 3).
#ifndef OCTOGATE_WORKERS_SPECULATION_RANK_TREE_H_
#define OCTOGATE_WORKERS_SPECULATION_RANK_TREE_H_

#include <cstdint>
#include <span>
#include <vector>

namespace octogate::workers {

struct RankNode {
  int32_t parent = -1;  // a node before this one; -1: the root
  int32_t rank = 0;     // among the candidates of the parent, from 0

  bool operator==(const RankNode&) const = default;
};
// In breadth-first order.
using RankTree = std::vector<RankNode>;

// The tree of 80 nodes and depth 6 that Token Recycling was measured with; ranks below 8.
RankTree PaperRankTree();

// The `nodes` paths with the most expected hits: rates[d][r] is how often, of the times that all of
// the first d tokens were right, the next one has rank r. Deeper than the rates nothing is drafted,
// nor what has rate 0. Of equals the shallower, then the one of lower ranks.
RankTree PlanRankTree(std::span<const std::vector<float>> rates, int nodes);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_RANK_TREE_H_
