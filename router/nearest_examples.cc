#include "router/nearest_examples.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace octogate::router {
namespace {

// Sums lanes apart, in a fixed order, so that every build gives the same bits.
float Dot(const float* a, const float* b, size_t size) {
  constexpr size_t kLanes = 16;
  float sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  float sum = 0;
  for (; i < size; ++i) sum += a[i] * b[i];
  for (const float lane : sums) sum += lane;
  return sum;
}

}  // namespace

void NearestExamples::Add(std::span<const float> vector, int label) {
  vectors_.insert(vectors_.end(), vector.begin(), vector.end());
  labels_.push_back(label);
}

std::vector<float> NearestExamples::Shares(std::span<const float> vector) const {
  if (labels_.empty()) return std::vector<float>(classes_, 1.0F / static_cast<float>(classes_));
  // The nearest so far, the nearest first.
  std::vector<std::pair<float, int>> nearest;
  nearest.reserve(kNeighbours + 1);
  for (size_t i = 0; i < labels_.size(); ++i) {
    const float product = Dot(vector.data(), &vectors_[i * dimension_], dimension_);
    if (nearest.size() == kNeighbours && !(product > nearest.back().first)) continue;
    const auto place =
        std::upper_bound(nearest.begin(), nearest.end(), product,
                         [](float value, const auto& other) { return value > other.first; });
    nearest.insert(place, {product, labels_[i]});
    if (nearest.size() > kNeighbours) nearest.pop_back();
  }
  std::vector<float> shares(classes_, 0);
  float sum = 0;
  for (const auto& [product, label] : nearest) {
    const float vote = std::exp((product - nearest.front().first) / kTemperature);
    shares[label] += vote;
    sum += vote;
  }
  for (float& share : shares) share /= sum;
  return shares;
}

}  // namespace octogate::router
