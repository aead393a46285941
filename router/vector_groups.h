#ifndef OCTOGATE_ROUTER_VECTOR_GROUPS_H_
#define OCTOGATE_ROUTER_VECTOR_GROUPS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace octogate::router {

// Divides vectors of unit length into `groups` of those that point the same way: k-means by cosine
// (Dhillon and Modha 2001), begun as k-means++ does (Arthur and Vassilvitskii 2007). Returns the
// group of each vector; groups are numbered from 0 in the order of their first vectors, and there
// may be fewer than asked for, but none is empty. Depends on the arguments alone: equal ones give
// equal groups on every machine. Takes kGroupRounds * vectors * groups products at most;
// DEADLINE_EXCEEDED between rounds.
inline constexpr int kGroupRounds = 15;
absl::StatusOr<std::vector<uint32_t>> GroupVectors(const std::vector<const float*>& vectors,
                                                   size_t dimension, size_t groups, uint64_t seed,
                                                   absl::Time deadline);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_VECTOR_GROUPS_H_
