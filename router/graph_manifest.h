#ifndef OCTOGATE_ROUTER_GRAPH_MANIFEST_H_
#define OCTOGATE_ROUTER_GRAPH_MANIFEST_H_

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "octogate/v1/graph.pb.h"
#include "router/graph_validation.h"

// The YAML form of a graph:
//
//   apiVersion: octogate/v1
//   kind: Graph
//   metadata: {name: example}
//   spec:
//     entry: main
//     nodes: [...]
//
// Below `metadata` and `spec` the keys are the fields of v1::Graph in lowerCamelCase; the members
// of a oneof are keys of their parent; enum values are written without their prefix in
// lowerCamelCase (`on: lowConfidence`, `argumentStyle: call`).

namespace octogate::router {

inline constexpr size_t kMaxManifestBytes = size_t{4} << 20;
// Errors reported for one manifest; what is left out is counted in the last line.
inline constexpr int kMaxManifestErrors = 20;

struct GraphManifest {
  v1::Graph graph;  // Valid, with defaults filled in.
  // Remarks that do not make it invalid, as "SOURCE:LINE:COLUMN: …".
  std::vector<std::string> warnings;
};

// A further check of the whole graph, e.g. that its tools exist; its problems are reported at their
// places like all others.
using GraphCheck = std::function<std::vector<GraphProblem>(const v1::Graph&)>;

// Parses strictly and validates whole: duplicate and unknown keys, wrong types, values out of range
// and everything that ValidateGraph (graph_validation.h) finds are errors. INVALID_ARGUMENT with
// one line per error, in the order of the text:
//
//   graph.yaml:12:7: unknown key 'exmaples' in a node; did you mean 'examples'?
//
// `source` is what the lines begin with. Anchors, aliases, tags and further documents are refused;
// a text over kMaxManifestBytes is RESOURCE_EXHAUSTED. Never throws; time and memory are bounded
// by the size of the text.
absl::StatusOr<GraphManifest> ParseGraphManifest(std::string_view yaml, std::string_view source,
                                                 const std::vector<GraphCheck>& checks = {});

// The canonical manifest: fields in the order of the contract, defaults written out where they are
// set. ParseGraphManifest gives back an equal graph, if `graph` is valid and has its defaults.
std::string GraphToYaml(const v1::Graph& graph);

// Sets every field that is not set and has a default, as graph.proto states them.
void ApplyDefaults(v1::Graph* graph);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_GRAPH_MANIFEST_H_
