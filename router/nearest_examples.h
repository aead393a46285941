#ifndef OCTOGATE_ROUTER_NEAREST_EXAMPLES_H_
#define OCTOGATE_ROUTER_NEAREST_EXAMPLES_H_

#include <cstddef>
#include <memory>
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
  // With those of `known` before all that are added, which has classes of its own only: label_of
  // says which label each of its labels is here, negative where its examples do not count.
  NearestExamples(size_t classes, std::shared_ptr<const NearestExamples> known,
                  std::vector<int> label_of);

  // `vector` has `dimension` values, `label` is in [0, classes).
  void Add(std::span<const float> vector, int label);

  // Each class's share of the votes; they sum to 1. Of equally near examples the earlier counts.
  // Without examples all classes share equally.
  std::vector<float> Shares(std::span<const float> vector) const;

  size_t size() const { return labels_.size() + (known_ == nullptr ? 0 : known_->size()); }

 private:
  struct Neighbour {
    float product;
    int label;
  };
  // Puts the nearest of its own examples among those found, the nearest first, with
  // label_of[label] for each label where that is not null.
  void Find(std::span<const float> vector, const std::vector<int>* label_of,
            std::vector<Neighbour>* nearest) const;

  size_t classes_;
  size_t dimension_;
  std::vector<float> vectors_;  // One behind the other.
  std::vector<int> labels_;
  std::shared_ptr<const NearestExamples> known_;  // Or null.
  std::vector<int> label_of_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_NEAREST_EXAMPLES_H_
