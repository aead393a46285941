#include "router/nearest_examples.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "router/lane_product.h"

namespace octogate::router {
NearestExamples::NearestExamples(size_t classes, std::shared_ptr<const NearestExamples> known,
                                 std::vector<int> label_of)
    : classes_(classes),
      dimension_(known->dimension_),
      known_(std::move(known)),
      label_of_(std::move(label_of)) {}

void NearestExamples::Add(std::span<const float> vector, int label) {
  vectors_.insert(vectors_.end(), vector.begin(), vector.end());
  labels_.push_back(label);
}

void NearestExamples::Find(std::span<const float> vector, const std::vector<int>* label_of,
                           std::vector<Neighbour>* nearest) const {
  for (size_t i = 0; i < labels_.size(); ++i) {
    const int label = label_of == nullptr ? labels_[i] : (*label_of)[labels_[i]];
    if (label < 0) continue;
    const float product = LaneProduct(vector.data(), &vectors_[i * dimension_], dimension_);
    if (nearest->size() == kNeighbours && !(product > nearest->back().product)) continue;
    const auto place =
        std::upper_bound(nearest->begin(), nearest->end(), product,
                         [](float value, const Neighbour& other) { return value > other.product; });
    nearest->insert(place, {product, label});
    if (nearest->size() > kNeighbours) nearest->pop_back();
  }
}

std::vector<float> NearestExamples::Shares(std::span<const float> vector) const {
  std::vector<Neighbour> nearest;
  nearest.reserve(kNeighbours + 1);
  if (known_ != nullptr) known_->Find(vector, &label_of_, &nearest);
  Find(vector, nullptr, &nearest);
  if (nearest.empty()) return std::vector<float>(classes_, 1.0F / static_cast<float>(classes_));
  std::vector<float> shares(classes_, 0);
  float sum = 0;
  for (const auto& [product, label] : nearest) {
    const float vote = std::exp((product - nearest.front().product) / kTemperature);
    shares[label] += vote;
    sum += vote;
  }
  for (float& share : shares) share /= sum;
  return shares;
}

}  // namespace octogate::router
