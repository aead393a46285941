// Logistic regression with few features and a penalty that draws towards given weights.
#ifndef OCTOGATE_ROUTER_LOGISTIC_FIT_H_
#define OCTOGATE_ROUTER_LOGISTIC_FIT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace octogate::router {

// p / (1 - p) as a logarithm, for p kept within [0.001, 0.999].
double Logit(double probability);
double Sigmoid(double logit);

// Rows of `dimension` features, with what is added to each row's logit as it is.
struct LogisticRows {
  explicit LogisticRows(size_t dimension) : dimension(dimension) {}

  size_t dimension;
  std::vector<float> features;
  std::vector<float> offsets;
  std::vector<uint8_t> labels;

  size_t size() const { return labels.size(); }
  void Add(const float* row, float offset, bool label);
};

struct LogisticPenalty {
  double strength = 1;          // As so many rows' worth of curvature, for each weight.
  std::vector<double> towards;  // One for each feature; empty: 0.
  // Of each feature whether its weight may be negative; empty: all may.
  std::vector<bool> signed_weights;
};

// The weights of the penalized maximum of likelihood, by Newton's method; what would be negative
// and may not be is 0. Deterministic. Without rows, `towards`.
std::vector<double> FitLogistic(const LogisticRows& rows, const LogisticPenalty& penalty);

// What a group of rows with the present logits deserves in addition: one step of Newton's method
// towards their labels, drawn towards 0 by a penalty of `strength`.
class OffsetStep {
 public:
  explicit OffsetStep(double strength) : curvature_(strength) {}
  void Add(double logit, bool label);
  double value() const;

 private:
  double gradient_ = 0;
  double curvature_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_LOGISTIC_FIT_H_
