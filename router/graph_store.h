#ifndef OCTOGATE_ROUTER_GRAPH_STORE_H_
#define OCTOGATE_ROUTER_GRAPH_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/store.h"
#include "octogate/v1/admin.pb.h"
#include "octogate/v1/graph.pb.h"
#include "router/graph_manifest.h"

namespace octogate::router {

// One version of the graph.
struct StoredGraph {
  v1::GraphVersion info;
  v1::Graph graph;
  std::string manifest;
};

// Which graph a writer has seen, and replaces.
struct ExpectedGraph {
  int64_t version = 0;  // 0: any, or none
  // GraphVersion::digest of it; empty: any. A store that was set back, or lost all, can come to
  // another graph under the same number.
  std::string digest;
};

// The nodes that are drained.
struct DrainedNodes {
  // Of the list: each change has a higher one, so that a store that was set back, or lost it,
  // shows.
  int64_t revision = 0;            // 0: there is no list
  std::vector<std::string> names;  // sorted
};

// A flush of what gateways have cached each on its own.
struct CacheFlush {
  std::string id;      // random; empty: there was none
  std::string before;  // of the flush before
  std::string tenant;  // whose; empty: everybody's
};

struct GraphStoreOptions {
  // Versions kept; of more the oldest are dropped, never the applied one.
  int max_versions = 1000;
  Clock clock = SystemClock();
  // Further checks of every manifest.
  std::vector<GraphCheck> checks;
};

// The versions of the graph in a Store, of which the highest is the applied one, and the nodes that
// are drained whatever the version; beside them the last flush of caches. Thread-safe. Several
// gateways may share one store; a version is written by exactly one of them. Calls block on the
// store until `deadline` at most.
class GraphStore {
 public:
  // `store` outlives this object.
  GraphStore(Store* store, GraphStoreOptions options);

  // The applied version, as it is in the store. NOT_FOUND if there is none. Where the newest
  // version is damaged, the newest that is not is returned, and `warnings` says so loudly; with
  // versions but none that can be read it is DATA_LOSS.
  absl::StatusOr<StoredGraph> Load(absl::Time deadline, std::vector<std::string>* warnings);

  // Whether the version is there and the newest, at the price of listing newer ones: says nothing
  // of what it holds.
  absl::StatusOr<bool> IsNewest(int64_t version, absl::Time deadline);

  // Number and digest of the newest version. NOT_FOUND if there is none, DATA_LOSS where it is
  // damaged.
  absl::StatusOr<v1::GraphVersion> Newest(absl::Time deadline);

  // Puts a version back that the store has lost, under its number, and notifies: ABORTED where it
  // has one of that number. The manifest is one that was applied.
  absl::Status PutBack(const StoredGraph& graph, absl::Time deadline);

  // Makes the manifest the next version. ABORTED unless `expected` is the applied version, or where
  // another gateway was faster; errors of ParseGraphManifest as they are. An equal graph makes a
  // version, too: whether one is wanted, the caller decides by DiffGraphs.
  absl::StatusOr<StoredGraph> Apply(std::string_view manifest, std::string_view source,
                                    const ExpectedGraph& expected, absl::Time deadline);
  absl::StatusOr<StoredGraph> Apply(std::string_view manifest, std::string_view source,
                                    int64_t expected_version, absl::Time deadline) {
    return Apply(manifest, source, ExpectedGraph{.version = expected_version, .digest = ""},
                 deadline);
  }

  // Makes an earlier version (0: the one before the applied one) the next one. NOT_FOUND if it is
  // not kept.
  absl::StatusOr<StoredGraph> Rollback(int64_t version, const ExpectedGraph& expected,
                                       absl::Time deadline);
  absl::StatusOr<StoredGraph> Rollback(int64_t version, int64_t expected_version,
                                       absl::Time deadline) {
    return Rollback(version, ExpectedGraph{.version = expected_version, .digest = ""}, deadline);
  }

  // A version kept (0: the applied one): NOT_FOUND, or DATA_LOSS where it is damaged.
  absl::StatusOr<StoredGraph> Get(int64_t version, absl::Time deadline);

  // DATA_LOSS where the list is damaged.
  absl::StatusOr<DrainedNodes> Drained(absl::Time deadline);

  // Replaces the list that was read, `seen`, and notifies. ABORTED where it is another one by now.
  absl::Status SetDrained(const DrainedNodes& seen, const DrainedNodes& drained,
                          absl::Time deadline);

  // Removes a damaged list.
  absl::Status ForgetDrained(absl::Time deadline);

  // The last flush. DATA_LOSS where it is damaged.
  absl::StatusOr<CacheFlush> LastFlush(absl::Time deadline);

  // Makes a new flush the last one, notifies, and returns it.
  absl::StatusOr<CacheFlush> Flush(std::string_view tenant, absl::Time deadline);

  // Has `on_changed` called when another gateway may have applied a version, drained a node or
  // flushed: at once, but not surely. Null where the store cannot. As Store::Watch.
  std::unique_ptr<StoreWatch> WatchChanges(std::function<void()> on_changed);

  // The versions kept, newest first, `limit` at most; damaged ones have a number only.
  absl::StatusOr<std::vector<v1::GraphVersion>> List(int limit, absl::Time deadline);

 private:
  // Tells those who watch. What it takes is bounded, and nothing fails where it does.
  void NotifyChange(absl::Time deadline);
  // All names in the store with the prefix, without it, in byte order. DATA_LOSS where the store
  // lists what it should not, or without end.
  absl::StatusOr<std::vector<std::string>> Names(std::string_view prefix, absl::Time deadline);
  absl::StatusOr<std::vector<int64_t>> Versions(absl::Time deadline);
  absl::StatusOr<StoredGraph> Read(int64_t version, absl::Time deadline);
  absl::StatusOr<StoredGraph> Write(StoredGraph graph, const ExpectedGraph& expected,
                                    absl::Time deadline);

  Store& store_;
  const GraphStoreOptions options_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_GRAPH_STORE_H_
