#ifndef OCTOGATE_ROUTER_CANDIDATE_SOFTMAX_H_
#define OCTOGATE_ROUTER_CANDIDATE_SOFTMAX_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "router/softmax_regression.h"

// A softmax over very many classes of which each example is weighed against a few: its own, those
// that look like it ("candidates": a shortlist), and "none". A class has weights only for the
// features that its own examples have. Training and decisions cost the same whether there are a
// thousand classes or ten thousand; what is given up is that a class is never told apart from those
// that nothing confuses it with, and that a word counts for classes that know it only.

namespace octogate::router {

// From so many classes on, heads are trained and read this way.
inline constexpr size_t kManyClasses = 512;
// Classes that are weighed, beside "none".
inline constexpr size_t kCandidates = 32;

// Sparse rows of weights, class by class: of class c entries [begin[c], begin[c + 1]), by feature.
struct ClassRows {
  std::vector<size_t> begin = {0};
  std::vector<SparseRows::Entry> entries;
  std::vector<float> bias;

  size_t classes() const { return begin.size() - 1; }
};

// The mean of each class's examples, of unit length times `length`. Classes without any have no
// entries.
ClassRows MeanRows(const SparseRows& examples, const std::vector<int>& labels,
                   const std::vector<uint32_t>& selected, size_t classes, float length);

// Of each feature the classes that have it, with their weights: those of the largest weights first,
// of equal ones by class, and at most `most` of them.
struct ClassLists {
  struct Item {
    uint32_t index;
    float weight;
  };
  std::vector<size_t> begin = {0};  // Of feature f: items [begin[f], begin[f + 1]).
  std::vector<Item> items;

  // Adds the list of the next feature. Uses `list` up.
  void Append(std::vector<Item>* list, size_t most);
};

// Of the first `classes` rows.
ClassLists ListClasses(const ClassRows& rows, size_t classes, size_t features, size_t most);

// Finds classes by the features that they share with a vector. Scratch space: for one thread.
class CandidateFinder {
 public:
  // `lists` outlives the finder.
  CandidateFinder(const ClassLists& lists, size_t classes) : lists_(lists), sums_(classes, 0) {}

  // The `count` classes of the largest sums of products, rising; the first of equal ones.
  void Find(const SparseRows::Entry* begin, const SparseRows::Entry* end, size_t count,
            std::vector<uint32_t>* found);

 private:
  const ClassLists& lists_;
  std::vector<float> sums_;
  std::vector<uint32_t> touched_;
};

inline int CandidateEpochs(const SoftmaxTraining& training, size_t examples) {
  constexpr size_t kManyExamples = 20'000;
  return std::min(training.epochs, examples <= kManyExamples ? 8 : 5);
}

// Which of the `selected` examples calibration holds out: every fifth, or fewer of very many,
// spread over all classes. The others are kept for training.
struct CandidateSplit {
  std::vector<uint32_t> kept;
  std::vector<uint32_t> left_out;
};
CandidateSplit HoldOutForCalibration(const std::vector<uint32_t>& selected);

// A softmax over the candidates of one example at a time, whatever its rows are made of.
struct CandidateRows {
  // Appends the logits of the example's candidates, in their order. Steps that follow are about
  // this example.
  std::function<void(uint32_t example, const std::vector<uint32_t>& candidates,
                     std::vector<float>* logits)>
      append_logits;
  // Moves the row of the j-th candidate, `row`, and its bias by Adagrad; `error` is the slope of
  // the loss in its logit.
  std::function<void(size_t j, uint32_t row, float error)> step;
};

// Trains rows on the `selected` examples; candidates[i], which has labels[i], is what example i is
// weighed against. In an order that depends on the seed alone, as TrainSoftmax, in CandidateEpochs
// epochs; DEADLINE_EXCEEDED once the deadline has passed.
absl::Status TrainOnCandidates(const std::vector<int>& labels,
                               const std::vector<uint32_t>& selected,
                               const std::vector<std::vector<uint32_t>>& candidates,
                               const SoftmaxTraining& training, absl::Time deadline,
                               const CandidateRows& rows);

// The same of sparse rows, from what is in them.
absl::Status TrainCandidates(const SparseRows& examples, const std::vector<int>& labels,
                             const std::vector<uint32_t>& selected,
                             const std::vector<std::vector<uint32_t>>& candidates, size_t features,
                             const SoftmaxTraining& training, absl::Time deadline, ClassRows* rows);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_CANDIDATE_SOFTMAX_H_
