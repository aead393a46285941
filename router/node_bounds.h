// What running a node takes at most and at least, by the graph alone.
#ifndef OCTOGATE_ROUTER_NODE_BOUNDS_H_
#define OCTOGATE_ROUTER_NODE_BOUNDS_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "octogate/v1/graph.pb.h"
#include "router/graph_validation.h"

namespace octogate::router {

// The node of that name, or null. Linear in the number of nodes.
const v1::Node* FindNode(const v1::Graph& graph, std::string_view name);

// Calls of models and recordings that the node makes by itself; a router, a tool, a choice of one
// call and a retriever without table_node make none. The least are those of a run in which
// everything succeeds as early as it can. A name that refers to no node counts as none.
int MostCalls(const v1::Graph& graph, const v1::Node& node);
int LeastCalls(const v1::Graph& graph, const v1::Node& node);

// What so many tokens cost by the price of a model or replay node; 0 for nodes without price.
double CostOf(const v1::Node& node, int64_t input_tokens, int64_t output_tokens);

// The cost of the node's calls where each of them is given `input_tokens`, the judge of a verifier
// that and the longest answer, and writes max_tokens.
double MostCost(const v1::Graph& graph, const v1::Node& node, int64_t input_tokens);

// What one query can take at most from the graph's entry, by its edges and its limits.
struct GraphBounds {
  int steps = 0;
  int64_t calls = 0;
  // With an input of no tokens for each node, so of what is written alone; in the prices' currency.
  double cost = 0;
  int64_t time_ms = 0;
};
GraphBounds WorstCase(const v1::Graph& graph);

// Problems of vote and verify nodes, prices, and limits that leave edges without use. The graph's
// references may be wrong; those of vote and verify nodes are reported here.
//   - An edge whose two nodes need more calls than max_calls, or a node whose answer alone may cost
//     more than max_cost, can never be of use: an error.
//   - An edge that no query from the graph's entry can take within max_calls or max_steps is a
//     warning: a query may enter elsewhere.
std::vector<GraphProblem> CheckNodeBounds(const v1::Graph& graph);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_NODE_BOUNDS_H_
