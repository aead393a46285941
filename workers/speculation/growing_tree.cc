#include "workers/speculation/growing_tree.h"

#include <algorithm>
#include <utility>

namespace octogate::workers {

void GrowingTree::Clear() {
  rows_.clear();
  masks_.clear();
  ranked_ = 0;
  candidates_.clear();
  taken_.clear();
  order_ = 0;
}

void GrowingTree::Begin(int32_t token) { AddRow({.token = token}); }

void GrowingTree::AddRow(const Row& row) {
  kernels::AncestorMask mask;
  if (row.parent >= 0) mask = masks_[static_cast<size_t>(row.parent)];
  mask.words[rows_.size() / 64] |= uint64_t{1} << (rows_.size() % 64);
  masks_.push_back(mask);
  rows_.push_back(row);
}

int GrowingTree::deepest() const {
  int depth = 0;
  for (const Row& row : rows_) depth = std::max(depth, row.depth);
  for (const Candidate& candidate : candidates_) {
    depth = std::max(depth, rows_[static_cast<size_t>(candidate.parent)].depth + 1);
  }
  return depth;
}

void GrowingTree::Offer(const Candidate& candidate) {
  candidates_.push_back(candidate);
  std::push_heap(candidates_.begin(), candidates_.end());
}

void GrowingTree::AddCandidate(size_t row, int32_t token, double probability) {
  Offer({.path = rows_[row].path * probability,
         .order = order_++,
         .parent = static_cast<int>(row),
         .token = token,
         .probability = static_cast<float>(probability)});
}

GrowingTree::Row GrowingTree::TakeNode() {
  std::pop_heap(candidates_.begin(), candidates_.end());
  const Candidate& taken = taken_.emplace_back(candidates_.back());
  candidates_.pop_back();
  return {.token = taken.token,
          .parent = taken.parent,
          .depth = rows_[static_cast<size_t>(taken.parent)].depth + 1,
          .path = taken.path,
          .probability = taken.probability};
}

GrowingTree::Row GrowingTree::TakeRow() {
  AddRow(TakeNode());
  return rows_.back();
}

void GrowingTree::SetRanked() {
  ranked_ = rows_.size();
  taken_.clear();
}

void GrowingTree::DropUnranked() {
  for (const Candidate& candidate : taken_) Offer(candidate);
  taken_.clear();
  rows_.resize(ranked_);
  masks_.resize(ranked_);
}

std::vector<int32_t> GrowingTree::Follow(std::span<const int32_t> tokens) const {
  std::vector<int32_t> path = {0};
  const auto count = static_cast<int32_t>(rows_.size());
  for (const int32_t token : tokens) {
    int32_t child = path.back() + 1;
    while (child < count && (rows_[static_cast<size_t>(child)].parent != path.back() ||
                             rows_[static_cast<size_t>(child)].token != token)) {
      ++child;
    }
    if (child == count) break;
    path.push_back(child);
  }
  return path;
}

std::vector<int32_t> GrowingTree::MakeRoot(int32_t row) {
  const auto root = static_cast<size_t>(row);
  const std::vector<Row> rows = std::exchange(rows_, {});
  // Products of many small probabilities may be zero.
  const double path = rows[root].path > 0 ? rows[root].path : 1;
  masks_.clear();
  std::vector<int32_t> left;
  std::vector<int> place(rows.size(), -1);
  for (size_t i = root; i < rows.size(); ++i) {
    Row kept = rows[i];
    kept.parent = i == root ? -1 : place[static_cast<size_t>(kept.parent)];
    if (i != root && kept.parent < 0) continue;
    kept.depth -= rows[root].depth;
    kept.path /= path;
    place[i] = static_cast<int>(rows_.size());
    AddRow(kept);
    if (i != root) left.push_back(static_cast<int32_t>(i));
  }
  ranked_ = rows_.size();
  for (Candidate& candidate : candidates_) {
    candidate.parent = place[static_cast<size_t>(candidate.parent)];
    candidate.path /= path;
  }
  std::erase_if(candidates_, [](const Candidate& candidate) { return candidate.parent < 0; });
  std::make_heap(candidates_.begin(), candidates_.end());
  return left;
}

uint64_t GrowingTree::bytes() const {
  return rows_.capacity() * sizeof(Row) + masks_.capacity() * sizeof(kernels::AncestorMask) +
         (candidates_.capacity() + taken_.capacity()) * sizeof(Candidate);
}

}  // namespace octogate::workers
