#include "workers/speculation/speculation_usage.h"

#include <cstddef>

namespace octogate::workers {

void CountDraftTree(const DraftTree& tree, std::span<const int> accepted, SpeculationUsage& usage) {
  const auto count = [&](const DraftNode& node, int64_t DraftCounts::*member) {
    ++(usage.tokens.*member);
    const auto depth = static_cast<size_t>(node.depth);
    if (usage.depths.size() < depth) usage.depths.resize(depth);
    ++(usage.depths[depth - 1].*member);
    for (size_t d = 0; d < usage.drafters.size(); ++d) {
      if ((node.drafters >> d & 1) != 0) ++(usage.drafters[d].tokens.*member);
    }
  };
  for (const DraftNode& node : tree.nodes) count(node, &DraftCounts::drafted);
  for (const int node : accepted) {
    count(tree.nodes[static_cast<size_t>(node)], &DraftCounts::accepted);
  }
}

}  // namespace octogate::workers
