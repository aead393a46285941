#include "workers/speculation/branch_trie.h"

#include <algorithm>
#include <limits>

namespace octogate::workers {
namespace {

// A decay begins when an eighth of the nodes is left, and looks at so many for each token that is
// put in: each makes at most one node, so it ends in time.
constexpr size_t kDecayPace = 8;

}  // namespace

BranchTrie::BranchTrie(size_t max_nodes)
    : max_nodes_(std::max<size_t>(max_nodes, 1)), nodes_(1), buckets_(16, -1), next_(1) {}

size_t BranchTrie::BucketOf(int32_t parent, int32_t token) const {
  const uint64_t key =
      (static_cast<uint64_t>(static_cast<uint32_t>(parent)) << 32) | static_cast<uint32_t>(token);
  // Fibonacci hashing: the upper bits of a product with 2^64 divided by the golden ratio.
  const uint64_t product = (key ^ (key >> 29)) * 0x9e3779b97f4a7c15U;
  return static_cast<size_t>(product >> 32) & (buckets_.size() - 1);
}

int32_t BranchTrie::Child(int32_t node, int32_t token) const {
  if (node < 0) return -1;
  int32_t child = buckets_[BucketOf(node, token)];
  while (child >= 0 && (At(child).parent != node || At(child).token != token)) {
    child = At(child).same_hash;
  }
  return child;
}

int32_t BranchTrie::Find(std::span<const int32_t> path) const {
  int32_t node = 0;
  for (int32_t token : path) node = Child(node, token);
  return node;
}

void BranchTrie::Rehash(size_t buckets) {
  buckets_.assign(buckets, -1);
  for (size_t i = 1; i < nodes_.size(); ++i) {
    Node& node = nodes_[i];
    if (node.parent < 0) continue;
    int32_t& bucket = buckets_[BucketOf(node.parent, node.token)];
    node.same_hash = bucket;
    bucket = static_cast<int32_t>(i);
  }
}

int32_t BranchTrie::Add(int32_t parent, int32_t token) {
  auto node = static_cast<int32_t>(nodes_.size());
  if (free_.empty()) {
    // What is new need not be looked at.
    if (!decays()) ++next_;
    nodes_.emplace_back();
  } else {
    node = free_.back();
    free_.pop_back();
  }
  if (++size_ > buckets_.size()) Rehash(2 * buckets_.size());
  int32_t& bucket = buckets_[BucketOf(parent, token)];
  const int32_t next = Of(parent).first;
  Of(node) = {.token = token,
              .parent = parent,
              .first = -1,
              .next = next,
              .previous = -1,
              .same_hash = bucket,
              .count = 0,
              .halvings = halvings_};
  if (next >= 0) Of(next).previous = node;
  Of(parent).first = node;
  bucket = node;
  return node;
}

void BranchTrie::Drop(int32_t node) {
  const Node gone = At(node);
  (gone.previous >= 0 ? Of(gone.previous).next : Of(gone.parent).first) = gone.next;
  if (gone.next >= 0) Of(gone.next).previous = gone.previous;
  int32_t* link = &buckets_[BucketOf(gone.parent, gone.token)];
  while (*link != node) link = &Of(*link).same_hash;
  *link = gone.same_hash;
  // Its children, which are to be dropped, too, look at its `first`.
  Of(node).parent = -1;
  dropped_.push_back(node);
  --size_;
}

void BranchTrie::BeginDecay() {
  ++halvings_;
  next_ = 1;
}

void BranchTrie::Decay(size_t count) {
  if (!decays()) return;
  for (; count > 0 && decays(); --count, ++next_) {
    const auto place = static_cast<int32_t>(next_);
    Node& node = Of(place);
    if (node.parent < 0) continue;
    node.count = Count(place);
    node.halvings = halvings_;
    // No child counts more than its parent, so none is left without one.
    if (node.count == 0) Drop(place);
  }
  if (decays()) return;
  free_.insert(free_.end(), dropped_.begin(), dropped_.end());
  dropped_.clear();
  again_ = size_ > max_nodes_ / 2;
}

void BranchTrie::Put(std::span<const int32_t> branch) {
  if (!decays() && (again_ || size_ > max_nodes_ - max_nodes_ / 8)) BeginDecay();
  Decay(kDecayPace * branch.size());
  const size_t room = std::min(branch.size(), max_nodes_);
  while (size_ + room > max_nodes_) {
    if (!decays()) BeginDecay();
    Decay(nodes_.size());
  }
  int32_t node = 0;
  for (int32_t token : branch) {
    int32_t child = Child(node, token);
    if (child < 0) {
      if (size_ == max_nodes_) return;
      child = Add(node, token);
    }
    node = child;
    const int32_t count = Count(node);
    Of(node).count = count < std::numeric_limits<int32_t>::max() ? count + 1 : count;
    Of(node).halvings = halvings_;
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
         (buckets_.capacity() + free_.capacity() + dropped_.capacity()) * sizeof(int32_t);
}

}  // namespace octogate::workers
