#ifndef OCTOGATE_ROUTER_ROUTING_EXAMPLES_H_
#define OCTOGATE_ROUTER_ROUTING_EXAMPLES_H_

#include <string>
#include <vector>

namespace octogate::router {

// What the heads of a router learn from.
struct RoutingExamples {
  // Texts of each class; a class may have none, and is then never sure.
  std::vector<std::vector<std::string>> classes;
  // Texts that belong to no class, beside those built in (background_queries.h).
  std::vector<std::string> none;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_ROUTING_EXAMPLES_H_
