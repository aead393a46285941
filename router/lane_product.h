#ifndef OCTOGATE_ROUTER_LANE_PRODUCT_H_
#define OCTOGATE_ROUTER_LANE_PRODUCT_H_

#include <cstddef>

namespace octogate::router {

// The dot product of two vectors. Sums lanes apart, in a fixed order, so that every build gives the
// same bits.
inline float LaneProduct(const float* a, const float* b, size_t size) {
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

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_LANE_PRODUCT_H_
