// Draft trees compared, and the paths in them.
#ifndef OCTOGATE_TESTS_WORKERS_SPECULATION_DRAFT_PATHS_H_
#define OCTOGATE_TESTS_WORKERS_SPECULATION_DRAFT_PATHS_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "workers/speculation/draft_tree.h"

namespace octogate::workers {

inline ::testing::AssertionResult SameBits(const DraftTree& a, const DraftTree& b) {
  const auto same = [](const DraftNode& x, const DraftNode& y) {
    return x.token == y.token && x.parent == y.parent && x.depth == y.depth &&
           x.drafters == y.drafters && x.rank == y.rank &&
           std::bit_cast<uint32_t>(x.probability) == std::bit_cast<uint32_t>(y.probability);
  };
  if (std::equal(a.nodes.begin(), a.nodes.end(), b.nodes.begin(), b.nodes.end(), same)) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure()
         << "trees of " << a.size() << " and " << b.size() << " nodes differ";
}

// Tokens from the root to a node; of -1 none.
inline std::vector<int32_t> PathTo(const DraftTree& tree, int node) {
  std::vector<int32_t> path;
  for (; node >= 0; node = tree.nodes[static_cast<size_t>(node)].parent) {
    path.push_back(tree.nodes[static_cast<size_t>(node)].token);
  }
  std::reverse(path.begin(), path.end());
  return path;
}

}  // namespace octogate::workers

#endif  // OCTOGATE_TESTS_WORKERS_SPECULATION_DRAFT_PATHS_H_
