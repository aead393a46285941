#ifndef OCTOGATE_ROUTER_GRAPH_VALIDATION_H_
#define OCTOGATE_ROUTER_GRAPH_VALIDATION_H_

#include <string>
#include <vector>

#include "octogate/v1/graph.pb.h"

namespace octogate::router {

// One thing that is wrong with a graph, or strange about it.
struct GraphProblem {
  // Where: fields of v1::Graph by their proto names, e.g. "spec.nodes[3].router.members[0]".
  std::string path;
  // What is wrong, and what would be right.
  std::string message;
  // Does not make the graph invalid.
  bool warning = false;
};

// Checks what concerns more than one field; single values are checked where they are parsed
// (graph_schema.h). The graph has its defaults. In the order of the graph; empty: the graph is
// valid. Checked are:
//   - names of models and nodes, and tokens within a router, are unique, and no token contains
//     another or the end token;
//   - every name refers to something that exists and is of the right kind;
//   - a model has exactly one of path and workers; `below` goes with LOW_CONFIDENCE only;
//   - every node can be reached from the entry (a model that no node uses is a warning);
//   - no router can hand over to itself through its members;
//   - every cycle has an edge with max_visits;
//   - at most 100,000 examples of 16 MiB, and 16,384 members of routers, in all.
std::vector<GraphProblem> ValidateGraph(const v1::Graph& graph);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_GRAPH_VALIDATION_H_
