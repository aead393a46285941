// From a valid graph to everything its queries need: models loaded and warm, tools made, heads
// trained.
#ifndef OCTOGATE_GATEWAY_GRAPH_BUILDER_H_
#define OCTOGATE_GATEWAY_GRAPH_BUILDER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "gateway/event_loop.h"
#include "gateway/graph_state.h"
#include "gateway/model_client.h"
#include "gateway/replica_set.h"
#include "octogate/v1/graph.pb.h"
#include "router/graph_validation.h"

namespace octogate::gateway {

// Loads a model of this process (one with a `path`) and warms it. May take until the deadline.
using ModelLoader = std::function<absl::StatusOr<std::unique_ptr<ModelClient>>(
    const v1::Model& model, absl::Time deadline)>;

struct GraphBuilderOptions {
  // Where the paths of recordings and catalogs start.
  std::string model_root = ".";
  ReplicaSetOptions replicas;
  // How long remote replicas may take to say that they are there; a model without any is a
  // warning, not an error: workers may start later.
  absl::Duration worker_timeout = absl::Seconds(2);
  SharedAnswersOptions shared_answers;
};

// What is wrong with the tool nodes of a graph: unknown tools and parameters.
std::vector<router::GraphProblem> CheckTools(const v1::Graph& graph);

// Thread safety: all methods may be called from any thread.
class GraphBuilder {
 public:
  // `loops` outlives the builder. `loader` may be null: graphs with in-process models are
  // FAILED_PRECONDITION then.
  GraphBuilder(EventLoops* loops, ModelLoader loader, const GraphBuilderOptions& options);

  // Blocks until everything is ready. Models, heads and catalogs that `previous` (may be null) has,
  // equally configured, are taken from there. Remarks are added to `warnings`.
  absl::StatusOr<std::shared_ptr<const GraphState>> Build(
      const v1::Graph& graph, int64_t version, std::string manifest,
      const std::shared_ptr<const GraphState>& previous, absl::Time deadline,
      std::vector<std::string>* warnings);

  // Only what decides: the routers with their heads, and the models that these need. Nothing else
  // of the graph is there, so that it is of use beside the applied one, `previous`.
  absl::StatusOr<std::shared_ptr<const router::RoutingSnapshot>> BuildRouting(
      const v1::Graph& graph, int64_t version, const std::shared_ptr<const GraphState>& previous,
      absl::Time deadline, std::vector<std::string>* warnings);

  // Whether the graph's recordings, outcomes and catalogs can be read, for graphs that are not
  // going to be built; catalogs that `previous` (may be null) has, equally configured, are not read
  // again. Remarks are added to `warnings`.
  absl::Status CheckFiles(const v1::Graph& graph, const GraphState* previous, absl::Time deadline,
                          std::vector<std::string>* warnings) const;

 private:
  // Fills `state->models` with those models that `needed` names, or all where it is null, and
  // `state->routing`.
  absl::Status BuildDecisions(const v1::Graph& graph, int64_t version,
                              const absl::flat_hash_set<std::string>* needed,
                              const std::shared_ptr<const GraphState>& previous,
                              absl::Time deadline, GraphState* state,
                              std::vector<std::string>* warnings);
  absl::StatusOr<std::shared_ptr<ReplicaSet>> BuildReplicas(const v1::Model& model,
                                                            absl::Time deadline);
  void AwaitWorkers(const GraphState& state, std::vector<std::string>* warnings) const;
  std::shared_ptr<NodeCounters> CountersOf(const std::string& node);

  EventLoops* const loops_;
  const ModelLoader loader_;
  const GraphBuilderOptions options_;
  absl::Mutex mutex_;
  // Of nodes of the graphs built last; dropped with the last version that has the node.
  absl::flat_hash_map<std::string, std::weak_ptr<NodeCounters>> counters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_GRAPH_BUILDER_H_
