#ifndef OCTOGATE_ROUTER_GRAPH_DIFF_H_
#define OCTOGATE_ROUTER_GRAPH_DIFF_H_

#include <vector>

#include "octogate/v1/admin.pb.h"
#include "octogate/v1/graph.pb.h"

namespace octogate::router {

// What one has to change in `before` to get `after`, in the order of the graph; empty: they are
// equal. Paths are those of the manifest, relative to `spec` (metadata: "metadata.description"):
//   - models and nodes are told by name: "nodes[shell].model.maxTokens";
//   - edges by their ends and condition: "edges[shell->fallback on lowConfidence].below", a second
//     one of the same by "#2" behind it;
//   - other lists are compared by content: an entry that is added or removed is "examples[3]" with
//     its place in the list that has it;
//   - a list with the same entries in another order is MODIFIED as a whole, e.g. "nodes order", as
//     order counts (edges are tried in it).
// Whole messages that are added or removed are one change, with the value as manifest text. Values
// longer than 4 KiB are cut.
std::vector<v1::GraphChange> DiffGraphs(const v1::Graph& before, const v1::Graph& after);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_GRAPH_DIFF_H_
