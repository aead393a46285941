#ifndef OCTOGATE_ROUTER_NEAREST_EXAMPLES_H_
#define OCTOGATE_ROUTER_NEAREST_EXAMPLES_H_

#include <cstddef>
#include <span>
#include <vector>

namespace octogate::router {

// Scores classes by the examples nearest to a vector: each of the kNeighbours of the largest dot
// product votes for its class with weight exp(product / kTemperature). Vectors of unit length make
// that the cosine. Exact: every example is compared, in the order in which they were added.
//
// Thread-safe once filled.
class NearestExamples {
 public:
  // Chosen on held-out training questions of MMLU-Pro and the validation texts of CLINC150, with
  // vectors of all-MiniLM-L6-v2.
  static constexpr size_t kNeighbours = 20;
  static constexpr float kTemperature = 0.07F;

  NearestExamples(size_t classes, size_t dimension) : classes_(classes), dimension_(dimension) {}

  // `vector` has `dimension` values, `label` is in [0, classes).
  void Add(std::span<const float> vector, int label);

  // Each class's share of the votes; they sum to 1. Of equally near examples the earlier counts.
  // Without examples all classes share equally.
  std::vector<float> Shares(std::span<const float> vector) const;

  size_t size() const { return labels_.size(); }

 private:
  size_t classes_;
  size_t dimension_;
  std::vector<float> vectors_;  // One behind the other.
  std::vector<int> labels_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_NEAREST_EXAMPLES_H_
