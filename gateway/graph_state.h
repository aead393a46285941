// One applied version of the graph with everything that its queries need: heads, tools, replicas.
#ifndef OCTOGATE_GATEWAY_GRAPH_STATE_H_
#define OCTOGATE_GATEWAY_GRAPH_STATE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "gateway/cache/query_caches.h"
#include "gateway/catalog/catalog_set.h"
#include "gateway/choice/learned_choice.h"
#include "gateway/model_client.h"
#include "gateway/replay/recording_set.h"
#include "gateway/replica_set.h"
#include "gateway/tools/tool.h"
#include "octogate/v1/graph.pb.h"
#include "router/router.h"

namespace octogate::gateway {

// A moving average of durations, of about the last 16. Of two that are added at the same time one
// may be lost.
class MeanDuration {
 public:
  void Add(absl::Duration duration) {
    const int64_t value = absl::ToInt64Microseconds(duration);
    const int64_t before = count_.fetch_add(1, std::memory_order_relaxed);
    const int64_t mean = microseconds_.load(std::memory_order_relaxed);
    const int64_t weight = before < kMemory ? before + 1 : kMemory;
    microseconds_.store(mean + (value - mean) / weight, std::memory_order_relaxed);
  }
  int64_t count() const { return count_.load(std::memory_order_relaxed); }
  absl::Duration value() const {
    return absl::Microseconds(microseconds_.load(std::memory_order_relaxed));
  }

 private:
  static constexpr int64_t kMemory = 16;
  std::atomic<int64_t> count_{0};
  std::atomic<int64_t> microseconds_{0};
};

// What is counted per node. Shared by all versions of the graph that have a node of that name.
struct NodeCounters {
  std::atomic<int64_t> queries{0};
  std::atomic<int64_t> errors{0};
  std::atomic<int> in_flight{0};
  MeanDuration answers;  // Of a node that asks models, from its entry to the end of its answer.
};

struct NodeRuntime {
  const v1::Node* node;
  std::shared_ptr<NodeCounters> counters;
  bool keeps_texts = false;                      // an edge somewhere names the node
  std::unique_ptr<const Tool> tool;              // of a tool node
  std::shared_ptr<ReplicaSet> replicas;          // of a model node
  std::shared_ptr<ModelClient> replay;           // of a replay node
  std::shared_ptr<const LearnedChoice> choice;   // of a choice node
  std::shared_ptr<const CatalogHandle> catalog;  // of one that uses a catalog
};

// Immutable. Every query holds the version that it started on until it has ended; what no version
// needs any longer goes with the last of them.
struct GraphState {
  std::shared_ptr<const router::RoutingSnapshot> routing;
  std::string manifest;  // as applied
  absl::flat_hash_map<std::string, std::unique_ptr<const NodeRuntime>> nodes;
  absl::flat_hash_map<std::string, std::shared_ptr<ReplicaSet>> models;
  RecordingSet recordings;
  LearnedChoices choices;
  CatalogSet catalogs;
  // Of a state that serves queries; else null.
  std::shared_ptr<QueryCaches> caches;

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
