// One applied version of the graph with everything that its queries need: heads, tools, replicas.
#ifndef OCTOGATE_GATEWAY_GRAPH_STATE_H_
#define OCTOGATE_GATEWAY_GRAPH_STATE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "gateway/model_client.h"
#include "gateway/replay/recording_set.h"
#include "gateway/replica_set.h"
#include "gateway/tools/tool.h"
#include "octogate/v1/graph.pb.h"
#include "router/router.h"

namespace octogate::gateway {

// What is counted per node. Shared by all versions of the graph that have a node of that name.
struct NodeCounters {
  std::atomic<int64_t> queries{0};
  std::atomic<int64_t> errors{0};
  std::atomic<int> in_flight{0};
};

struct NodeRuntime {
  const v1::Node* node;
  std::shared_ptr<NodeCounters> counters;
  std::unique_ptr<const Tool> tool;      // of a tool node
  std::shared_ptr<ReplicaSet> replicas;  // of a model node
  std::shared_ptr<ModelClient> replay;   // of a replay node
};

// Immutable. Every query holds the version that it started on until it has ended; what no version
// needs any longer goes with the last of them.
struct GraphState {
  std::shared_ptr<const router::RoutingSnapshot> routing;
  std::string manifest;  // as applied
  absl::flat_hash_map<std::string, std::unique_ptr<const NodeRuntime>> nodes;
  absl::flat_hash_map<std::string, std::shared_ptr<ReplicaSet>> models;
  RecordingSet recordings;

  const v1::Graph& graph() const { return routing->graph(); }
  int64_t version() const { return routing->version(); }

  // The node of that name, or null.
  const NodeRuntime* FindNode(const std::string& name) const {
    const auto found = nodes.find(name);
    return found == nodes.end() ? nullptr : found->second.get();
  }
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_GRAPH_STATE_H_
