#ifndef OCTOGATE_ROUTER_HELD_OUT_H_
#define OCTOGATE_ROUTER_HELD_OUT_H_

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "router/routing_examples.h"

// Examples that training does not see, by which weights and thresholds are chosen.

namespace octogate::router {

constexpr int kHeldOutParts = 5;

struct HeldOutSplit {
  RoutingExamples kept;
  // Text and class, classes.size() for "none". Views of the examples split.
  std::vector<std::pair<std::string_view, int>> left_out;
};

// Own examples and those of "none", without those built in.
size_t CountExamples(const RoutingExamples& examples);

// Leaves out every kHeldOutParts-th example from the `part`-th on; `part` is in [0, kHeldOutParts).
// Together the parts leave out each example once.
HeldOutSplit HoldOut(const RoutingExamples& examples, int part);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_HELD_OUT_H_
