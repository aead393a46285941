#include "router/held_out.h"

#include <algorithm>
#include <string>

namespace octogate::router {

size_t CountExamples(const RoutingExamples& examples) {
  size_t count = examples.none.size();
  for (const std::vector<std::string>& texts : examples.classes) count += texts.size();
  return count;
}

double NoneImportance(const RoutingExamples& examples) {
  constexpr double kLeastShare = 0.1;
  constexpr double kMost = 25;
  if (examples.none.empty()) return 1;
  const auto none = static_cast<double>(examples.none.size());
  const double others = static_cast<double>(CountExamples(examples)) - none;
  return std::clamp(others * kLeastShare / (1 - kLeastShare) / none, 1.0, kMost);
}

HeldOutSplit HoldOut(const RoutingExamples& examples, int part) {
  HeldOutSplit split;
  const auto divide = [&](const std::vector<std::string>& texts, int label,
                          std::vector<std::string>* kept) {
    for (size_t i = 0; i < texts.size(); ++i) {
      const size_t run = i * kHeldOutParts / texts.size() + static_cast<size_t>(label);
      if (run % kHeldOutParts == static_cast<size_t>(part)) {
        split.left_out.emplace_back(texts[i], label);
      } else {
        kept->push_back(texts[i]);
      }
    }
  };
  const size_t classes = examples.classes.size();
  split.kept.classes.resize(classes);
  for (size_t c = 0; c < classes; ++c) {
    divide(examples.classes[c], static_cast<int>(c), &split.kept.classes[c]);
  }
  divide(examples.none, static_cast<int>(classes), &split.kept.none);
  return split;
}

}  // namespace octogate::router
