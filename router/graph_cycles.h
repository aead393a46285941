#ifndef OCTOGATE_ROUTER_GRAPH_CYCLES_H_
#define OCTOGATE_ROUTER_GRAPH_CYCLES_H_

#include <string>
#include <vector>

namespace octogate::router {

// A way from one node to another, and the path of the value that says so.
struct Arc {
  int to = 0;
  std::string path;
};

struct Cycle {
  std::vector<int> nodes;    // In order; the last leads to the first.
  std::string closing_path;  // Of the arc that closes it.
};

// Cycles of a directed graph, `arcs[i]` leaving node i: at least one where there is any, at most
// one per arc that a depth-first walk finds to lead back. Linear in the size of the graph, apart
// from the cycles' own lengths; at most 100 are returned.
std::vector<Cycle> FindCycles(const std::vector<std::vector<Arc>>& arcs);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_GRAPH_CYCLES_H_
