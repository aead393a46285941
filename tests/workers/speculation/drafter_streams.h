// What tests of drafters feed them, and what every drafter's trees are.
#ifndef OCTOGATE_TESTS_WORKERS_SPECULATION_DRAFTER_STREAMS_H_
#define OCTOGATE_TESTS_WORKERS_SPECULATION_DRAFTER_STREAMS_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "workers/speculation/drafter.h"

namespace octogate::workers {

using Tokens = std::vector<int32_t>;

inline Tokens RandomText(std::mt19937_64& random, size_t count, uint64_t alphabet) {
  Tokens text(count);
  for (int32_t& token : text) token = static_cast<int32_t>(random() % alphabet);
  return text;
}

inline DraftTree Proposal(SequenceDrafter& sequence, int max_nodes = 80, int max_depth = 16) {
  DraftTree tree;
  sequence.Propose(max_nodes, max_depth, tree);
  return tree;
}

// Whether depths and ranks are those that DraftTree::Add gives.
inline bool IsAsAdded(const DraftTree& tree) {
  DraftTree added;
  for (const DraftNode& node : tree.nodes) {
    const int place = added.Add(node.parent, node.token, node.probability, node.drafters);
    if (place != added.size() - 1) return false;
    const DraftNode& other = added.nodes.back();
    if (other.depth != node.depth || other.rank != node.rank) return false;
  }
  return true;
}

// Whether no path comes before one that is more probable.
inline bool IsBestFirst(const DraftTree& tree) {
  std::vector<float> paths;
  for (const DraftNode& node : tree.nodes) {
    const float before = node.parent < 0 ? 1 : paths[static_cast<size_t>(node.parent)];
    paths.push_back(before * node.probability);
  }
  return std::is_sorted(paths.rbegin(), paths.rend());
}

inline bool SameTree(const DraftTree& a, const DraftTree& b) {
  return std::equal(a.nodes.begin(), a.nodes.end(), b.nodes.begin(), b.nodes.end(),
                    [](const DraftNode& x, const DraftNode& y) {
                      return x.token == y.token && x.parent == y.parent &&
                             x.probability == y.probability;
                    });
}

// Long random sequences of three scopes, which run beside each other and end at any time: trees are
// well-formed and within their limits, a twin that is told the same proposes the same, and the
// drafter holds at most `max_bytes`.
inline void RunRandomStreams(std::mt19937_64& random, Drafter& drafter, Drafter& twin,
                             uint64_t max_bytes) {
  struct Running {
    std::unique_ptr<SequenceDrafter> sequence;
    std::unique_ptr<SequenceDrafter> twin;
  };
  std::vector<Running> running(3);
  for (int step = 0; step < 4000; ++step) {
    Running& one = running[random() % running.size()];
    if (one.sequence == nullptr || random() % 150 == 0) {
      one = {};
      const std::string scope = absl::StrCat(random() % 3);
      one = {drafter.Begin(scope), twin.Begin(scope)};
    }
    const Tokens tokens = RandomText(random, random() % 6, 1 + random() % 4);
    one.sequence->Append(tokens);
    one.twin->Append(tokens);
    const int max_nodes = static_cast<int>(random() % 140);
    const int max_depth = static_cast<int>(random() % 10);
    const DraftTree tree = Proposal(*one.sequence, max_nodes, max_depth);
    ASSERT_TRUE(CheckDraftTree(tree, 4).ok()) << CheckDraftTree(tree, 4);
    ASSERT_LE(tree.size(), max_nodes);
    for (const DraftNode& node : tree.nodes) ASSERT_LE(node.depth, max_depth);
    ASSERT_TRUE(IsAsAdded(tree));
    ASSERT_TRUE(IsBestFirst(tree));
    ASSERT_TRUE(SameTree(tree, Proposal(*one.twin, max_nodes, max_depth)));
    // Whoever may have more begins with the same.
    DraftTree more = Proposal(*one.twin, kMaxDraftNodes, max_depth);
    ASSERT_EQ(tree.size(), std::min(std::max(max_nodes, 0), more.size()));
    more.nodes.resize(tree.nodes.size());
    ASSERT_TRUE(SameTree(tree, more));
    ASSERT_LE(drafter.bytes(), max_bytes);
  }
}

}  // namespace octogate::workers

#endif  // OCTOGATE_TESTS_WORKERS_SPECULATION_DRAFTER_STREAMS_H_
