#ifndef OCTOGATE_TESTS_ROUTER_RANDOM_GRAPH_H_
#define OCTOGATE_TESTS_ROUTER_RANDOM_GRAPH_H_

#include <random>
#include <string>

#include "octogate/v1/graph.pb.h"

namespace octogate::router {

// A random valid graph of up to 12 nodes with its defaults: routers only hand over to later nodes,
// and edges that lead back have a bound.
v1::Graph RandomGraph(std::mt19937* random);

// Text of any characters that a manifest may hold, awkward ones more often.
std::string RandomText(std::mt19937* random, int max_pieces);

}  // namespace octogate::router

#endif  // OCTOGATE_TESTS_ROUTER_RANDOM_GRAPH_H_
