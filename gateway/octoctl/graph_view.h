// Pictures of a graph: as text for a terminal, as DOT for Graphviz, and as SVG
// through Graphviz.

#ifndef OCTOGATE_GATEWAY_OCTOCTL_GRAPH_VIEW_H_
#define OCTOGATE_GATEWAY_OCTOCTL_GRAPH_VIEW_H_

#include <string>

#include "absl/status/statusor.h"
#include "gateway/octoctl/output.h"
#include "octogate/v1/graph.pb.h"

namespace octogate::octoctl {

// What decisions call a head of this kind: "lexical", "encoder" or "causal".
const char* HeadName(const octogate::v1::Head& head);

// What a choice looks for: "cheapest that is right with 0.7".
std::string ChoiceGoalText(const octogate::v1::ChoiceNode& choice);

// A tree from the entry down: routers hold their members, edges hang under the
// node that they leave. A node is unfolded where it is nearest to the entry, and
// only named elsewhere.
std::string GraphAsText(const octogate::v1::Graph& graph, const Style& style);

// One Graphviz digraph: routers are diamonds, models boxes, tools ellipses;
// members hang on solid arrows, edges on dashed ones with their condition.
std::string GraphAsDot(const octogate::v1::Graph& graph);

// What `dot -Tsvg` makes of GraphAsDot. FAILED_PRECONDITION where Graphviz is
// not installed; DEADLINE_EXCEEDED where it takes more than 20 seconds.
absl::StatusOr<std::string> GraphAsSvg(const octogate::v1::Graph& graph);

}  // namespace octogate::octoctl

#endif  // OCTOGATE_GATEWAY_OCTOCTL_GRAPH_VIEW_H_
