// What is wrong with a graph's caches of decisions and answers, and how many they keep.
#ifndef OCTOGATE_ROUTER_CACHE_VALIDATION_H_
#define OCTOGATE_ROUTER_CACHE_VALIDATION_H_

#include <cstdint>
#include <vector>

#include "octogate/v1/graph.pb.h"
#include "router/graph_validation.h"

namespace octogate::router {

// Options of `spec.cache` that need or exclude each other. References to models are
// ValidateGraph's.
std::vector<GraphProblem> CheckCache(const v1::Graph& graph);

inline constexpr int32_t kDefaultMaxDecisions = 65'536;

// Decisions that a gateway keeps at most; 0: none.
int32_t MaxCachedDecisions(const v1::GraphSpec& spec);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_CACHE_VALIDATION_H_
