#include "router/vector_groups.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "router/lane_product.h"
#include "router/random_order.h"

namespace octogate::router {
namespace {

constexpr uint32_t kUnseen = ~uint32_t{0};

// Uniform in [0, 1).
double Draw(Random* random) { return static_cast<double>(random->Next() >> 11) * 0x1p-53; }

// Vectors far from all centres are drawn as further ones the more probably, the farther they are.
std::vector<std::vector<float>> FirstCentres(const std::vector<const float*>& vectors,
                                             size_t dimension, size_t groups, Random* random) {
  std::vector<std::vector<float>> centres;
  std::vector<double> distances(vectors.size(), 2);  // The largest there is.
  size_t next = random->Next() % vectors.size();
  while (true) {
    centres.emplace_back(vectors[next], vectors[next] + dimension);
    if (centres.size() == groups) return centres;
    double sum = 0;
    for (size_t i = 0; i < vectors.size(); ++i) {
      const double product = LaneProduct(vectors[i], centres.back().data(), dimension);
      distances[i] = std::min(distances[i], std::max(0.0, 1 - product));
      sum += distances[i];
    }
    if (!(sum > 0)) return centres;
    double rest = sum * Draw(random);
    for (size_t i = 0; i < vectors.size() && rest >= 0; ++i) {
      if (distances[i] > 0) next = i;
      rest -= distances[i];
    }
  }
}

}  // namespace

absl::StatusOr<std::vector<uint32_t>> GroupVectors(const std::vector<const float*>& vectors,
                                                   size_t dimension, size_t groups, uint64_t seed,
                                                   absl::Time deadline) {
  std::vector<uint32_t> group_of(vectors.size(), 0);
  if (groups <= 1 || vectors.empty()) return group_of;
  Random random(seed);
  std::vector<std::vector<float>> centres = FirstCentres(vectors, dimension, groups, &random);
  for (int round = 0; round < kGroupRounds; ++round) {
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError("grouped examples until the deadline");
    }
    bool moved = round == 0;
    for (size_t i = 0; i < vectors.size(); ++i) {
      uint32_t nearest = 0;
      float most = -2;
      for (size_t g = 0; g < centres.size(); ++g) {
        const float product = LaneProduct(vectors[i], centres[g].data(), dimension);
        if (!(product > most)) continue;
        most = product;
        nearest = static_cast<uint32_t>(g);
      }
      moved = moved || nearest != group_of[i];
      group_of[i] = nearest;
    }
    if (!moved) break;
    for (std::vector<float>& centre : centres) std::fill(centre.begin(), centre.end(), 0.0F);
    for (size_t i = 0; i < vectors.size(); ++i) {
      std::vector<float>& centre = centres[group_of[i]];
      for (size_t f = 0; f < dimension; ++f) centre[f] += vectors[i][f];
    }
    for (std::vector<float>& centre : centres) {
      const float length = std::sqrt(LaneProduct(centre.data(), centre.data(), dimension));
      if (!(length > 0)) continue;
      for (float& value : centre) value /= length;
    }
  }
  std::vector<uint32_t> number_of(centres.size(), kUnseen);
  uint32_t next = 0;
  for (uint32_t& group : group_of) {
    if (number_of[group] == kUnseen) number_of[group] = next++;
    group = number_of[group];
  }
  return group_of;
}

}  // namespace octogate::router
