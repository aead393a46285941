#ifndef OCTOGATE_ROUTER_HELD_OUT_H_
#define OCTOGATE_ROUTER_HELD_OUT_H_

#include <algorithm>
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

// The step by which at most `most` of `count` examples are met, spread over all of them: those of
// one class follow one another.
inline size_t StepThrough(size_t count, size_t most) {
  return std::max<size_t>(1, (count + std::max<size_t>(most, 1) - 1) / std::max<size_t>(most, 1));
}

// Own examples and those of "none", without those built in.
size_t CountExamples(const RoutingExamples& examples);

// How often an example of "none" counts where the others count once, so that those of "none" are a
// tenth of all at least: a list of examples does not say how many queries are for no node, and
// usually is mostly about the nodes. Between 1 and 25: few texts are not all there is to "none".
double NoneImportance(const RoutingExamples& examples);

// Leaves out a fifth of each class, the examples of one run: those that follow one another are
// often of one author or one another's paraphrases, and would make one left out look known. `part`
// is in [0, kHeldOutParts); together the parts leave out each example once. Which run it is changes
// with the class, so that of many small classes one part has a fifth, too.
HeldOutSplit HoldOut(const RoutingExamples& examples, int part);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_HELD_OUT_H_
