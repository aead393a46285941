#ifndef OCTOGATE_ROUTER_SOFTMAX_ROW_H_
#define OCTOGATE_ROUTER_SOFTMAX_ROW_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "router/routing_examples.h"
#include "router/softmax_regression.h"

// Rows that are added to a softmax while all others stay as they are. With the others fixed, the
// loss of a softmax depends on the new row as that of a logistic regression, whose margin is the
// row's logit over the logarithm of the others' exponentials.

namespace octogate::router {

// The rows of a softmax over one example, summed up.
class SummedLogits {
 public:
  SummedLogits() = default;
  explicit SummedLogits(std::span<const float> logits);

  // How far a row is above all others together. `logit` is the row's, which is one of those
  // summed up, or kNoLogit for one that is not.
  float MarginOf(float logit) const;
  // A row's logit is now `after`; it was `before`, or kNoLogit.
  void Change(float before, float after);

  static constexpr float kNoLogit = -std::numeric_limits<float>::infinity();

 private:
  double Share(float logit) const;

  float max_ = 0;   // Of the logits given at first.
  double sum_ = 0;  // Of e^(logit - max_).
};

struct RowTraining {
  int epochs = 40;
  uint64_t seed = 1;
  double learning_rate = 0.5;
  // As in SoftmaxTraining, of a softmax of `classes`.
  double smoothing = 0;
  size_t classes = 2;
  // How often an epoch shows the row's own examples; those of others it shows once.
  int repeat = 1;
};

// That of a row beside others that were trained that way, in a softmax of `classes`.
RowTraining RowTrainingOf(const SoftmaxTraining& training, size_t classes);

// RowTraining::repeat of a row with so many texts: a learned class shows its texts about as often
// as one with a hundred would.
int RepeatOf(size_t texts);

struct LinearRow {
  std::vector<float> weights;  // Of each feature.
  float bias = 0;
};

// Of which most weights are 0.
struct SparseRow {
  std::vector<SparseRows::Entry> weights;  // By feature.
  float bias = 0;
};

// Fits a row so that margins[i] plus its logit on example i is high where own[i], low elsewhere.
// Examples that are not `selected` do not count. Adagrad, as TrainSoftmax: deterministic;
// DEADLINE_EXCEEDED between two epochs.
absl::StatusOr<LinearRow> FitSoftmaxRow(const SparseRows& examples, const std::vector<bool>& own,
                                        const std::vector<float>& margins,
                                        const std::vector<uint32_t>& selected, size_t features,
                                        const RowTraining& training, absl::Time deadline);

// Where the logit of a class comes from: columns of a model that was trained, to which columns
// have been added. -1: none. The two are summed; without either the class is never chosen.
struct ClassColumns {
  int trained = -1;
  int learned = -1;
};

// Of each of `classes`, from those of the columns.
void CombineColumns(std::span<const float> columns, const std::vector<ClassColumns>& classes,
                    std::vector<float>* logits);

// Those of a head before anything was learned: of each class the column of its place among
// `trained` ones, and that of "none" behind them.
std::vector<ClassColumns> TrainedColumns(const LearnedClasses& learned, size_t trained);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_SOFTMAX_ROW_H_
