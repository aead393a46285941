// A running gateway: the services on their ports, the applied graph, and what keeps them going.
#ifndef OCTOGATE_GATEWAY_SERVER_H_
#define OCTOGATE_GATEWAY_SERVER_H_

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/steady_event.h"
#include "common/store.h"
#include "common/value_cache.h"
#include "gateway/admin_service.h"
#include "gateway/admission.h"
#include "gateway/drain_list.h"
#include "gateway/event_loop.h"
#include "gateway/feedback_store.h"
#include "gateway/gateway_service.h"
#include "gateway/graph_builder.h"
#include "gateway/graph_manager.h"
#include "gateway/health_service.h"
#include "gateway/metrics.h"
#include "gateway/session_store.h"
#include "gateway/shared_threads.h"
#include "gateway/shared_values.h"
#include "gateway/trace_store.h"
#include "router/graph_store.h"

namespace octogate::gateway {

struct ServerOptions {
  // "host:port"; port 0 picks one.
  std::string listen = "127.0.0.1:7070";
  // Where Admin is served; empty: with the others. Whoever reaches Admin can change everything.
  std::string admin_listen;
  // Empty: no page of metrics.
  std::string metrics_listen;
  // Loops that serve the network. 0: half of the cores, at least one.
  int threads = 0;
  // Longer requests are refused with RESOURCE_EXHAUSTED.
  int max_message_bytes = 5 << 20;
  // Streams of one connection at the same time.
  int max_streams_per_connection = 1024;
  AdmissionOptions admission;
  // Of LinkSchema: links compute, so that more at a time would only take longer each.
  AdmissionOptions links = {
      .max_concurrent = 4, .max_waiting = 64, .max_per_tenant = 16, .one = "link", .many = "links"};
  TraceStoreOptions traces;
  SessionStoreOptions sessions;
  GraphBuilderOptions graph;  // shared_answers.values comes from shared_values
  // How often the store is asked what other gateways have done to it, beside whenever it notifies:
  // within this time and that of an answer from the store, a node that another one drains or puts
  // back is drained or back here, and a graph that it applies is being prepared here. Positive.
  absl::Duration store_poll_interval = absl::Seconds(1);
  // What gateways share beside the store: where sessions are, and answers that are kept. Null: this
  // process's alone. Outlives the server.
  ValueCache* shared_values = nullptr;
  // That a query waits for one of these at most.
  absl::Duration shared_wait = SharedValues::kMaxWait;
  // What the store says of itself, for the metrics; may be null. Outlives the server.
  std::function<Metrics::Store()> store_metrics;
  // May be null: no models in this process.
  ModelLoader load_model;
  // What models in this process compute on; may be null.
  std::function<std::string()> backend;
};

// gRPC health, of "" and "octogate.v1.Gateway", is SERVING while a graph is applied and every model
// of it has a replica that can take a query. Reflection is on.
//
// Thread safety: all methods may be called from any thread.
class Server {
 public:
  // Listens, and restores the applied graph from `store`, which outlives the server, behind. Calls
  // are UNAVAILABLE until there is one. UNAVAILABLE where a port cannot be had.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options, Store* store);

  // As Shutdown(0).
  ~Server();

  int port() const { return port_; }
  // The same as port() where Admin has none of its own.
  int admin_port() const { return admin_port_; }
  GraphManager& graphs() { return graphs_; }
  const Metrics& metrics() const { return metrics_; }

  // Waits until there is a restored graph, or the store is known to have none. False: not until
  // the deadline.
  bool AwaitRestored(absl::Time deadline);

  // Ends: health says NOT_SERVING, `notice` passes so that balancers see it, new calls are refused,
  // those under way get `grace` to end and are cancelled then. Once.
  void Shutdown(absl::Duration notice, absl::Duration grace);

 private:
  Server(const ServerOptions& options, Store* store);

  absl::Status Listen();
  // Probes, sweeps and restores until the end.
  void Maintain();
  void TryRestore();
  // Asks the store which nodes are drained, until the end.
  void PollStore();
  // Takes over versions that other gateways apply.
  void FollowGraph();

  const ServerOptions options_;
  Metrics metrics_;
  TraceStore traces_;
  DrainList drained_;
  std::unique_ptr<SharedValues> shared_;  // null: nothing is shared
  SessionStore sessions_;
  // Apart, so that what is slow of one kind does not keep the others waiting.
  SharedThreads tool_threads_;
  SharedThreads link_threads_;
  SharedThreads sql_threads_;
  Admission admission_;
  router::GraphStore graph_store_;
  FeedbackStore feedback_;

  // Queues come from these, and end with the loops below.
  grpc::ServerBuilder builder_;
  grpc::ServerBuilder admin_builder_;
  std::unique_ptr<EventLoops> loops_;
  std::unique_ptr<EventLoops> admin_loops_;
  GraphBuilder graph_builder_;
  GraphManager graphs_;
  GatewayService gateway_service_;
  AdminService admin_service_;
  HealthService health_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::Server> admin_server_;  // null where Admin has no port of its own
  int port_ = 0;
  int admin_port_ = 0;

  // The store has notified of a change. Called by any thread.
  void OnStoreChanged();
  // Waits for `changed`, or until `pause` has passed; kLeastPause in any case, so that changes in
  // quick succession cost one look. Whether it was; nothing: the server ends.
  std::optional<bool> AwaitChange(SteadyEvent& changed, absl::Duration pause);

  // Of a loop each, and set at the end.
  SteadyEvent stopped_maintaining_;
  SteadyEvent graph_changed_;
  SteadyEvent drained_changed_;
  absl::Mutex mutex_;
  bool restored_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ = false;
  // Of the maintenance thread.
  absl::Time restore_at_ = absl::InfinitePast();
  std::string restore_error_;
  std::thread maintenance_;
  std::thread follower_;  // of its own: preparing a graph may take minutes
  std::unique_ptr<StoreWatch> watch_;
  std::thread store_poller_;  // of its own: a store that hangs holds up nothing else
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SERVER_H_
