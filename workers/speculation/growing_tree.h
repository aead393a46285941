// The tree that a draft model grows for a sequence, by the most probable paths (model_drafter.h).
//
// Its rows are what passes of the draft model compute; row 0, the root, is the last token of the
// sequence. What may follow a row that was computed are candidates, which become rows, or nodes
// that nobody computes. Where part of the tree comes true, what is below it can go on growing.
//
// Thread safety: none.
#ifndef OCTOGATE_WORKERS_SPECULATION_GROWING_TREE_H_
#define OCTOGATE_WORKERS_SPECULATION_GROWING_TREE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"

namespace octogate::workers {

class GrowingTree {
 public:
  struct Row {
    int32_t token = 0;
    int parent = -1;  // row; -1: none
    int depth = 0;
    double path = 1;  // probability of its path
    float probability = 1;
  };

  // Neither rows nor candidates.
  bool empty() const { return rows_.empty(); }
  void Clear();
  // Of the root alone. The tree is empty.
  void Begin(int32_t token);

  const std::vector<Row>& rows() const { return rows_; }
  // Which rows each of them sees.
  const std::vector<kernels::AncestorMask>& masks() const { return masks_; }
  // Rows whose candidates are known: all but those that were added since.
  size_t ranked() const { return ranked_; }
  // Of rows and candidates.
  int deepest() const;

  bool has_candidates() const { return !candidates_.empty(); }
  // Of the most probable candidate, which there is.
  double best_path() const { return candidates_.front().path; }
  // It becomes a row, or a node: what it is.
  Row TakeRow();
  Row TakeNode();

  // What may follow a row that was computed, less probable tokens later.
  void AddCandidate(size_t row, int32_t token, double probability);
  // All rows have been computed, and their candidates added.
  void SetRanked();
  // Nodes, and rows that were not computed, are candidates again.
  void DropUnranked();

  // Rows, from the root on, whose tokens these are, as far as they go.
  std::vector<int32_t> Follow(std::span<const int32_t> tokens) const;
  // Leaves what is below a row, which becomes the root. Returns the other rows that are left, by
  // their numbers before. All rows are ranked.
  std::vector<int32_t> MakeRoot(int32_t row);

  uint64_t bytes() const;  // beside the object

 private:
  struct Candidate {
    double path = 0;
    int order = 0;   // of equals the one that was found first
    int parent = 0;  // row
    int32_t token = 0;
    float probability = 0;

    bool operator<(const Candidate& other) const {  // comes later
      return path != other.path ? path < other.path : order > other.order;
    }
  };

  void AddRow(const Row& row);
  void Offer(const Candidate& candidate);

  std::vector<Row> rows_;
  std::vector<kernels::AncestorMask> masks_;
  size_t ranked_ = 0;
  std::vector<Candidate> candidates_;  // a heap
  std::vector<Candidate> taken_;       // since rows were ranked last
  int order_ = 0;                      // of the next candidate
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_GROWING_TREE_H_
