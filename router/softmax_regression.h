#ifndef OCTOGATE_ROUTER_SOFTMAX_REGRESSION_H_
#define OCTOGATE_ROUTER_SOFTMAX_REGRESSION_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

// Multinomial logistic regression on sparse rows, trained by Adagrad (Duchi, Hazan and Singer
// 2011) towards smoothed labels (Szegedy et al. 2016, section 7).

namespace octogate::router {

// Sparse vectors, one after the other: example i is entries [begin[i], begin[i + 1]).
struct SparseRows {
  struct Entry {
    uint32_t feature;
    float value;
  };
  std::vector<size_t> begin = {0};
  std::vector<Entry> entries;

  size_t size() const { return begin.size() - 1; }
};

// logit[c] = bias[c] + sum over f of x[f] * weights[f * stride + c]. Rows are padded with zeros to
// whole vectors.
struct LinearModel {
  size_t features = 0;
  size_t classes = 0;
  size_t stride = 0;
  std::vector<float> weights;
  std::vector<float> bias;  // `stride` of them.
};

// One step of Adagrad.
inline void AdagradStep(float gradient, float rate, float* weight, float* squares) {
  constexpr float kTiny = 1e-12F;  // So that no root of 0 is divided by.
  *squares += gradient * gradient;
  *weight -= rate * gradient / std::sqrt(*squares + kTiny);
}

struct SoftmaxTraining {
  int epochs = 40;
  uint64_t seed = 1;
  double learning_rate = 0.5;
  // Probability of the wrong classes together that training aims at, in [0, 1).
  double smoothing = 0;
  // Adds to the logits of an example, one of each class, what is not learned. Empty: nothing.
  std::function<void(uint32_t example, float* logits)> add_offsets = nullptr;
  // Of each class, whether its weights stay zero, so that its logit is what is added. Empty: none.
  std::vector<bool> fixed = {};
};

// Trains on `examples` of the given `labels`, those of `selected` only, in an order that depends on
// the seed alone: equal inputs give equal weights on every machine. DEADLINE_EXCEEDED between two
// epochs; RESOURCE_EXHAUSTED where features * classes is over 2^26.
absl::StatusOr<LinearModel> TrainSoftmax(const SparseRows& examples, const std::vector<int>& labels,
                                         const std::vector<uint32_t>& selected, size_t features,
                                         size_t classes, const SoftmaxTraining& training,
                                         absl::Time deadline);

// logits[c] += sum over entries of value * weights[feature * stride + c], for a whole stride.
using AddRowsFunction = void (*)(const SparseRows::Entry* begin, const SparseRows::Entry* end,
                                 const float* weights, size_t stride, float* logits);
// The fastest one of this machine; all give the same bits.
AddRowsFunction FindAddRows();

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_SOFTMAX_REGRESSION_H_
