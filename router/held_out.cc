#include "router/held_out.h"

#include <string>

namespace octogate::router {

size_t CountExamples(const RoutingExamples& examples) {
  size_t count = examples.none.size();
  for (const std::vector<std::string>& texts : examples.classes) count += texts.size();
  return count;
}

HeldOutSplit HoldOut(const RoutingExamples& examples, int part) {
  HeldOutSplit split;
  size_t place = 0;
  const auto divide = [&](const std::vector<std::string>& texts, int label,
                          std::vector<std::string>* kept) {
    for (const std::string& text : texts) {
      if (place++ % kHeldOutParts == static_cast<size_t>(part)) {
        split.left_out.emplace_back(text, label);
      } else {
        kept->push_back(text);
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
