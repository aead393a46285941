#include "workers/speculation/draft_tree.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

namespace octogate::workers {

int DraftTree::Child(int parent, int32_t token) const {
  for (int i = parent + 1; i < size(); ++i) {
    const DraftNode& node = nodes[static_cast<size_t>(i)];
    if (node.parent == parent && node.token == token) return i;
  }
  return -1;
}

int DraftTree::Add(int parent, int32_t token, float probability, uint8_t drafters) {
  int rank = 0;
  for (int i = parent + 1; i < size(); ++i) {
    const DraftNode& node = nodes[static_cast<size_t>(i)];
    if (node.parent != parent) continue;
    if (node.token == token) return i;
    if ((node.drafters & drafters) != 0 && node.probability >= probability) ++rank;
  }
  const int depth = parent < 0 ? 1 : nodes[static_cast<size_t>(parent)].depth + 1;
  nodes.push_back({.token = token,
                   .parent = parent,
                   .depth = depth,
                   .probability = probability,
                   .drafters = drafters,
                   .rank = static_cast<uint8_t>(std::min(rank, 255))});
  return size() - 1;
}

absl::Status CheckDraftTree(const DraftTree& tree, int vocab_size) {
  if (tree.size() > kMaxDraftNodes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a draft tree has ", tree.size(), " nodes; at most ", kMaxDraftNodes));
  }
  absl::flat_hash_set<std::pair<int32_t, int32_t>> children;
  for (int i = 0; i < tree.size(); ++i) {
    const DraftNode& node = tree.nodes[static_cast<size_t>(i)];
    const auto wrong = [i](const char* what) {
      return absl::InvalidArgumentError(absl::StrCat("node ", i, " of a draft tree ", what));
    };
    if (node.parent < -1 || node.parent >= i) return wrong("is not behind its parent");
    const int depth = node.parent < 0 ? 1 : tree.nodes[static_cast<size_t>(node.parent)].depth + 1;
    if (node.depth != depth) return wrong("has a wrong depth");
    if (node.token < 0 || node.token >= vocab_size) return wrong("has no token of the vocabulary");
    if (!(node.probability >= 0 && node.probability <= 1)) return wrong("has no probability");
    if (!children.insert({node.parent, node.token}).second) return wrong("has a sibling's token");
  }
  return absl::OkStatus();
}

void MergeDraftTree(const DraftTree& from, DraftTree& to) {
  std::vector<int> places;
  places.reserve(from.nodes.size());
  for (const DraftNode& node : from.nodes) {
    const int parent = node.parent < 0 ? -1 : places[static_cast<size_t>(node.parent)];
    const int count = to.size();
    const int place = to.Add(parent, node.token, node.probability, node.drafters);
    DraftNode& merged = to.nodes[static_cast<size_t>(place)];
    if (place < count) {
      merged.probability = std::max(merged.probability, node.probability);
      merged.drafters |= node.drafters;
      merged.rank = std::min(merged.rank, node.rank);
    } else {
      merged.rank = node.rank;
    }
    places.push_back(place);
  }
}

void PruneDraftTree(int count, DraftTree& tree) {
  if (count >= tree.size()) return;
  std::vector<double> paths;
  paths.reserve(tree.nodes.size());
  for (const DraftNode& node : tree.nodes) {
    const double before = node.parent < 0 ? 1 : paths[static_cast<size_t>(node.parent)];
    paths.push_back(before * double{node.probability});
  }
  std::vector<int> order(tree.nodes.size());
  std::iota(order.begin(), order.end(), 0);
  const auto keep = static_cast<size_t>(std::max(count, 0));
  // Of equals the first, which is the parent where one is the other's.
  std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(keep), order.end(),
                   [&paths](int a, int b) {
                     const double path_a = paths[static_cast<size_t>(a)];
                     const double path_b = paths[static_cast<size_t>(b)];
                     return path_a != path_b ? path_a > path_b : a < b;
                   });
  order.resize(keep);
  std::sort(order.begin(), order.end());
  std::vector<int32_t> places(tree.nodes.size(), -1);
  std::vector<DraftNode> kept;
  kept.reserve(order.size());
  for (int i : order) {
    DraftNode node = tree.nodes[static_cast<size_t>(i)];
    if (node.parent >= 0) node.parent = places[static_cast<size_t>(node.parent)];
    places[static_cast<size_t>(i)] = static_cast<int32_t>(kept.size());
    kept.push_back(node);
  }
  tree.nodes = std::move(kept);
}

}  // namespace octogate::workers
