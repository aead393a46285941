// One tree of what several drafters propose, with what is to be expected of nodes on which they
// agree or differ.
//
// Paths that proposals share become one (RASD's fusion by the longest common prefix,
// arXiv:2503.03434). A node's probability is the largest that any drafter gives it, but no more
// than the most probable of its siblings leaves, times how much more or less often than that such
// nodes were right of late. Such nodes are those of the same kind: for each drafter, about what
// probability it gives the node; or where it has not proposed it, about what it gives the best of
// the siblings that it has proposed; or that it says nothing of them. So where one drafter is sure
// of a token, another's guess beside it counts little, although that other one is as often right as
// it says over all: the larger of two estimates is too large where one knows less than the other.
//
// What one drafter alone proposes, where there are no others, is left as it is.
//
// Not thread-safe.
#ifndef OCTOGATE_WORKERS_SPECULATION_DRAFT_COMBINATION_H_
#define OCTOGATE_WORKERS_SPECULATION_DRAFT_COMBINATION_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "workers/speculation/acceptance_stats.h"
#include "workers/speculation/draft_tree.h"

namespace octogate::workers {

struct CombinedDraft {
  DraftTree tree;               // any number of nodes
  std::vector<uint32_t> kinds;  // of the nodes, 4 bits for each drafter
  std::vector<float> said;      // what drafters make of each, before what was learned of its kind
};

class DraftCombination {
 public:
  // Of proposals by drafter, empty ones included. Nodes have the bits of their drafters, and the
  // lowest of the ranks.
  void Combine(std::span<const DraftTree> proposals, CombinedDraft& draft) const;
  // Learns that the sequence went on with `chosen` after `draft` was made.
  void Record(const CombinedDraft& draft, std::span<const int32_t> chosen);

 private:
  struct Learned {
    AcceptanceSums sums;
    double factor = 1;  // of the sums
  };
  // Null where nothing was learned of the kind, or cannot be.
  const Learned* Find(uint32_t kind) const;
  Learned* Make(uint32_t kind);

  // By kind: of the two drafters that there mostly are, and of others.
  std::array<Learned, 256> of_two_;
  absl::flat_hash_map<uint32_t, Learned> others_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_DRAFT_COMBINATION_H_
