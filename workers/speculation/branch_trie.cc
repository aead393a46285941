#include "workers/speculation/branch_trie.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace octogate::workers {

BranchTrie::BranchTrie(size_t max_nodes) : max_nodes_(std::max<size_t>(max_nodes, 1)), nodes_(1) {}

int32_t BranchTrie::Child(int32_t node, int32_t token) const {
  if (node < 0) return -1;
  const auto found = children_.find(Key(node, token));
  return found == children_.end() ? -1 : found->second;
}

int32_t BranchTrie::Find(std::span<const int32_t> path) const {
  int32_t node = 0;
  for (int32_t token : path) node = Child(node, token);
  return node;
}

int32_t BranchTrie::Add(int32_t parent, int32_t token, int32_t count) {
  const auto node = static_cast<int32_t>(nodes_.size());
  Node& above = nodes_[static_cast<size_t>(parent)];
  const int32_t next = std::exchange(above.first, node);
  nodes_.push_back({.token = token, .count = count, .first = -1, .next = next});
  children_.emplace(Key(parent, token), node);
  return node;
}

void BranchTrie::Put(std::span<const int32_t> branch) {
  int32_t node = 0;
  for (int32_t token : branch) {
    const int32_t child = Child(node, token);
    node = child >= 0 ? child : Add(node, token, 0);
    int32_t& count = nodes_[static_cast<size_t>(node)].count;
    if (count < std::numeric_limits<int32_t>::max()) ++count;
  }
  if (size() > max_nodes_) Decay();
}

void BranchTrie::Decay() {
  while (size() > max_nodes_ / 2) {
    const std::vector<Node> old = std::move(nodes_);
    nodes_.assign(1, {});
    children_.clear();
    // Pairs of an old node and the new one that its children come under.
    std::vector<std::pair<int32_t, int32_t>> open = {{0, 0}};
    std::vector<int32_t> kept;
    while (!open.empty()) {
      const auto [from, to] = open.back();
      open.pop_back();
      kept.clear();
      for (int32_t child = old[static_cast<size_t>(from)].first; child >= 0;
           child = old[static_cast<size_t>(child)].next) {
        if (old[static_cast<size_t>(child)].count >= 2) kept.push_back(child);
      }
      // In their old order, the last one first.
      for (auto child = kept.rbegin(); child != kept.rend(); ++child) {
        const Node& node = old[static_cast<size_t>(*child)];
        open.emplace_back(*child, Add(to, node.token, node.count / 2));
      }
    }
  }
}

int BranchTrie::CountBelow(int32_t node, int most) const {
  if (node < 0) return 0;
  int count = 0;
  std::vector<int32_t> open = {node};
  while (!open.empty() && count < most) {
    const int32_t parent = open.back();
    open.pop_back();
    for (int32_t child = At(parent).first; child >= 0 && count < most; child = At(child).next) {
      ++count;
      open.push_back(child);
    }
  }
  return count;
}

uint64_t BranchTrie::bytes() const {
  return sizeof(*this) + nodes_.capacity() * sizeof(Node) +
         children_.capacity() * (sizeof(std::pair<const uint64_t, int32_t>) + 1);
}

}  // namespace octogate::workers
