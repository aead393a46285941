// Applies graphs: validates, prepares everything, writes the version, and swaps it in at once.
//
// Queries read the applied graph at any time; one that is being prepared is invisible to them. A
// graph that cannot be prepared changes nothing.
#ifndef OCTOGATE_GATEWAY_GRAPH_MANAGER_H_
#define OCTOGATE_GATEWAY_GRAPH_MANAGER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "gateway/cache/cache_counts.h"
#include "gateway/drain_list.h"
#include "gateway/graph_builder.h"
#include "gateway/graph_state.h"
#include "gateway/metrics.h"
#include "octogate/v1/admin.pb.h"
#include "router/graph_store.h"

namespace octogate::gateway {

// Thread safety: all methods may be called from any thread. Those that take a deadline may block
// until then; one application at a time runs, others wait for it.
class GraphManager {
 public:
  // Everything outlives the manager.
  GraphManager(router::GraphStore* store, GraphBuilder* builder, DrainList* drained,
               Metrics* metrics);

  // The applied graph; null before the first. Does not block.
  std::shared_ptr<const GraphState> state() const;

  // Prepares and swaps in the version that the store has, with the nodes that are drained.
  // NOT_FOUND if it has none; DATA_LOSS where that is older than the applied one, since newer ones
  // cannot be used here; one to which the store was set back is left to FindOther. Returns whether
  // it was another than the applied one.
  absl::StatusOr<bool> Restore(absl::Time deadline);

  // The store's newest version, if that is not the applied one: another gateway has written it.
  // Where the store has lost the applied version (a server that was set back or emptied), it is put
  // back first. Nothing before the first version. Unless it is to be `thorough`, the store is asked
  // for names alone: another graph under the applied number is not found then.
  absl::StatusOr<std::optional<v1::GraphVersion>> FindOther(absl::Time deadline,
                                                            bool thorough = true) const;

  absl::StatusOr<v1::ApplyGraphResponse> Apply(const v1::ApplyGraphRequest& request,
                                               absl::Time deadline);
  // Applies the applied graph as `edit` changes it, in the canonical form of manifests: nothing can
  // come in between. An edit that fails, or that makes a graph that is not valid, changes nothing;
  // one that changes nothing makes no version. FAILED_PRECONDITION before the first graph, ABORTED
  // unless `expected_version` is 0 or the applied one.
  using GraphEdit = std::function<absl::Status(v1::Graph* graph)>;
  absl::StatusOr<v1::ApplyGraphResponse> Edit(const GraphEdit& edit, const std::string& source,
                                              bool dry_run, int64_t expected_version,
                                              absl::Time deadline);
  absl::StatusOr<v1::RollbackGraphResponse> Rollback(const v1::RollbackGraphRequest& request,
                                                     absl::Time deadline);
  absl::StatusOr<v1::GetGraphResponse> Get(const v1::GetGraphRequest& request, absl::Time deadline);
  absl::StatusOr<v1::ListGraphVersionsResponse> ListVersions(
      const v1::ListGraphVersionsRequest& request, absl::Time deadline);
  absl::StatusOr<v1::DiffGraphResponse> Diff(const v1::DiffGraphRequest& request,
                                             absl::Time deadline);

  absl::StatusOr<v1::ListNodesResponse> ListNodes(const v1::ListNodesRequest& request) const;
  absl::StatusOr<v1::DescribeModelsResponse> DescribeModels(
      const v1::DescribeModelsRequest& request) const;
  // Kept in the store: a restart does not bring a drained node back.
  absl::StatusOr<v1::DrainNodeResponse> DrainNode(const v1::DrainNodeRequest& request,
                                                  absl::Time deadline);

  // What decides on another graph, beside the applied one and without applying it: a version that
  // is kept, or a manifest where `version` is 0. Heads and models that the applied graph has too
  // are taken from it. NOT_FOUND for a version that is gone; else errors as of Apply.
  absl::StatusOr<std::shared_ptr<const router::RoutingSnapshot>> PrepareRouting(
      int64_t version, const std::string& manifest, const std::string& source, absl::Time deadline,
      std::vector<std::string>* warnings);

  // The replicas of the applied graph that have said something of themselves.
  std::vector<Metrics::Replica> Replicas() const;

  // Takes over from the store which nodes are drained, and logs what is new: other gateways change
  // it too. Where the store does not answer, what is known stays in force; where it has lost the
  // list, or was set back to an older one, it gets what is known beside what it has.
  absl::Status SyncDrained(absl::Time deadline);

  // Has the gateways of the store forget their decisions: all, or the tenant's where it is not
  // empty. What is here is forgotten first; the others hear of it as of a graph.
  absl::StatusOr<CacheCounts> FlushDecisions(const std::string& tenant, absl::Time deadline);

  // Forgets decisions as other gateways have flushed them; all where some of that was missed.
  absl::Status SyncFlushes(absl::Time deadline);

  // Whether a graph is applied and each of its models has a replica that can take a query.
  bool Ready() const;

  // Probes replicas. To be called every 100 ms or so.
  void Tick();

  // Lets go of the applied graph, and thereby of the sessions with its replicas once the queries
  // under way have ended. No other graph is applied after it.
  void Close();

 private:
  // The right to apply, or to drain. Waits for it.
  class Turn;

  // OK if `expected` is 0 or the applied version.
  absl::Status CheckExpected(int64_t expected) const;
  // Apply, once it is this call's turn and the version is the expected one.
  absl::StatusOr<v1::ApplyGraphResponse> ApplyManifest(const std::string& text,
                                                       const std::string& source, bool dry_run,
                                                       absl::Time deadline);
  // A manifest with its graph, ready to run as `version`.
  absl::StatusOr<std::shared_ptr<const GraphState>> Prepare(const v1::Graph& graph, int64_t version,
                                                            const std::string& manifest,
                                                            absl::Time deadline,
                                                            std::vector<std::string>* warnings);
  // The list of drained nodes that the store has, and where that is older than what is known, both
  // together. A damaged one is removed. In a Turn to drain.
  struct DrainedRead {
    router::DrainedNodes stored;
    router::DrainedNodes current;
    bool lost = false;
  };
  absl::StatusOr<DrainedRead> ReadDrained(absl::Time deadline);
  void TakeDrained(router::DrainedNodes drained);
  // Flushes decisions unless that has been done.
  void TakeFlush(const router::CacheFlush& flush);
  // Swaps in `prepared`, renumbered where the store has given it another version.
  absl::Status SwapIn(std::shared_ptr<const GraphState> prepared, int64_t version,
                      absl::Time deadline);
  int64_t version() const;

  router::GraphStore* const store_;
  GraphBuilder* const builder_;
  DrainList* const drained_;
  Metrics* const metrics_;
  mutable absl::Mutex mutex_;
  std::shared_ptr<const GraphState> state_ ABSL_GUARDED_BY(mutex_);
  bool applying_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  std::string last_flush_ ABSL_GUARDED_BY(mutex_);        // CacheFlush::id of what was done here
  int64_t drained_revision_ ABSL_GUARDED_BY(mutex_) = 0;  // of what drained_ has
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_GRAPH_MANAGER_H_
