#ifndef OCTOGATE_ROUTER_ROUTING_EXAMPLES_H_
#define OCTOGATE_ROUTER_ROUTING_EXAMPLES_H_

#include <cstddef>
#include <string>
#include <vector>

namespace octogate::router {

// What the heads of a router are trained on, all classes together.
struct RoutingExamples {
  // Texts of each class; a class may have none, and is then never sure.
  std::vector<std::vector<std::string>> classes;
  // Texts that belong to no class, beside those built in (background_queries.h).
  std::vector<std::string> none;
};

// What such a head learns afterwards, one class after the other, while all that it has learned
// before stays as it is.
struct LearnedClasses {
  // Of each class of the head that is made, its place in RoutingExamples::classes; -1 for one that
  // was not trained.
  std::vector<int> trained;

  struct Row {
    size_t place;  // Among `trained`; its size stands for "none".
    std::vector<std::string> texts;
  };
  // In the order in which they are learned, each class once at most.
  std::vector<Row> rows;

  // Whether it makes another head of one with so many classes.
  bool IsIdentity(size_t classes) const {
    if (!rows.empty() || trained.size() != classes) return false;
    for (size_t i = 0; i < classes; ++i) {
      if (trained[i] != static_cast<int>(i)) return false;
    }
    return true;
  }
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_ROUTING_EXAMPLES_H_
