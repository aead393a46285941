#include "workers/speculation/draft_tree.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <utility>

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

int DraftTreeBuilder::Add(int parent, int32_t token, float probability, uint8_t drafters) {
  Children& siblings = children_[static_cast<size_t>(parent + 1)];
  const int rank = siblings.count++;
  if (probability > siblings.least) return tree_.Add(parent, token, probability, drafters);
  siblings.least = probability;
  const int depth = parent < 0 ? 1 : tree_.nodes[static_cast<size_t>(parent)].depth + 1;
  tree_.nodes.push_back({.token = token,
                         .parent = parent,
                         .depth = depth,
                         .probability = probability,
                         .drafters = drafters,
                         .rank = static_cast<uint8_t>(std::min(rank, 255))});
  return tree_.size() - 1;
}

absl::Status CheckDraftTree(const DraftTree& tree, int vocab_size) {
  if (tree.size() > kMaxDraftNodes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a draft tree has ", tree.size(), " nodes; at most ", kMaxDraftNodes));
  }
  // The children of each node as lists, [0] those of the root.
  std::array<int32_t, kMaxDraftNodes + 1> first;
  std::array<int32_t, kMaxDraftNodes> next = {};
  first.fill(-1);
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
    int32_t& newest = first[static_cast<size_t>(node.parent + 1)];
    for (int32_t sibling = newest; sibling >= 0; sibling = next[static_cast<size_t>(sibling)]) {
      if (tree.nodes[static_cast<size_t>(sibling)].token == node.token) {
        return wrong("has a sibling's token");
      }
    }
    next[static_cast<size_t>(i)] = newest;
    newest = i;
  }
  return absl::OkStatus();
}

void PruneDraftTree(int count, DraftTree& tree) {
  if (count >= tree.size()) return;
  struct Path {
    double probability = 0;
    size_t node = 0;
  };
  std::vector<Path> paths;
  paths.reserve(tree.nodes.size());
  for (size_t i = 0; i < tree.nodes.size(); ++i) {
    const DraftNode& node = tree.nodes[i];
    const double before = node.parent < 0 ? 1 : paths[static_cast<size_t>(node.parent)].probability;
    paths.push_back({before * double{node.probability}, i});
  }
  const auto keep = static_cast<size_t>(std::max(count, 0));
  // Of equals the first, which is the parent where one is the other's.
  std::nth_element(paths.begin(), paths.begin() + static_cast<std::ptrdiff_t>(keep), paths.end(),
                   [](const Path& a, const Path& b) {
                     return a.probability != b.probability ? a.probability > b.probability
                                                           : a.node < b.node;
                   });
  std::vector<int32_t> places(tree.nodes.size(), -1);
  for (size_t i = 0; i < keep; ++i) places[paths[i].node] = 0;
  size_t kept = 0;
  for (size_t i = 0; i < tree.nodes.size(); ++i) {
    if (places[i] < 0) continue;
    DraftNode node = tree.nodes[i];
    if (node.parent >= 0) node.parent = places[static_cast<size_t>(node.parent)];
    places[i] = static_cast<int32_t>(kept);
    tree.nodes[kept++] = node;
  }
  tree.nodes.resize(keep);
}

void PruneByDraft(const DraftTree& draft, float epsilon, DraftTree& retrieved) {
  // What the children of the root and of each node leave of 1; nothing where there are none.
  std::vector<std::optional<double>> left(draft.nodes.size() + 1);
  for (const DraftNode& node : draft.nodes) {
    std::optional<double>& of = left[static_cast<size_t>(node.parent + 1)];
    of = of.value_or(1.0) - double{node.probability};
  }
  constexpr int kNowhere = -2;  // beside the draft's paths
  std::vector<int> places;      // in `draft`, of each retrieved node
  std::vector<int32_t> kept;    // its new index, or -1
  std::vector<DraftNode> nodes;
  for (const DraftNode& node : retrieved.nodes) {
    const auto parent = static_cast<size_t>(node.parent);
    const bool orphan = node.parent >= 0 && kept[parent] < 0;
    const int from = node.parent < 0 ? -1 : places[parent];
    int place = kNowhere;
    bool keep = !orphan;
    if (keep && from != kNowhere && left[static_cast<size_t>(from + 1)].has_value()) {
      const int child = draft.Child(from, node.token);
      if (child >= 0) {
        place = child;
        keep = draft.nodes[static_cast<size_t>(child)].probability >= epsilon;
      } else {
        keep = *left[static_cast<size_t>(from + 1)] >= double{epsilon};
      }
    }
    places.push_back(place);
    kept.push_back(keep ? static_cast<int32_t>(nodes.size()) : -1);
    if (!keep) continue;
    nodes.push_back(node);
    if (node.parent >= 0) nodes.back().parent = kept[parent];
  }
  retrieved.nodes = std::move(nodes);
}

}  // namespace octogate::workers
