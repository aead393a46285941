// The Admin service: graphs, nodes, what tokens are learned from, feedback and traces for
// operators.
#ifndef OCTOGATE_GATEWAY_ADMIN_SERVICE_H_
#define OCTOGATE_GATEWAY_ADMIN_SERVICE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "gateway/drain_list.h"
#include "gateway/event_loop.h"
#include "gateway/feedback_store.h"
#include "gateway/graph_manager.h"
#include "gateway/trace_store.h"
#include "octogate/v1/admin.grpc.pb.h"
#include "workers/server/blocking_pool.h"

namespace octogate::gateway {

// Thread safety: all methods may be called from any thread.
class AdminService {
 public:
  // Time of a call that has no deadline: loading models may take long.
  static constexpr absl::Duration kMaxCallTime = absl::Minutes(30);

  // Everything outlives the service. `backend` names what the in-process worker computes on;
  // `store_reachable` says whether the store that others share answers, null where there is none.
  AdminService(GraphManager* graphs, TraceStore* traces, FeedbackStore* feedback,
               const DrainList* drained, std::function<std::string()> backend,
               std::function<bool()> store_reachable);
  ~AdminService();

  // To be registered with the server's builder.
  grpc::Service* grpc_service();

  // Takes calls on the loop, whose queue is the server's. Once, when the server has started.
  void Serve(EventLoops* loops);

 private:
  struct Methods;

  void Evaluate(const v1::EvaluateTokensRequest& request, absl::Time deadline,
                const std::shared_ptr<Cancellation>& cancellation,
                const std::function<void(absl::StatusOr<v1::EvaluateTokensResponse>)>& done);

  // Of evaluations and replays, one at a time.
  template <typename Response>
  void RunAlone(const std::function<absl::StatusOr<Response>()>& run,
                const std::function<void(absl::StatusOr<Response>)>& done);

  GraphManager* const graphs_;
  TraceStore* const traces_;
  FeedbackStore* const feedback_;
  const DrainList* const drained_;
  const std::function<std::string()> backend_;
  const std::function<bool()> store_reachable_;
  const absl::Time started_;
  std::atomic<bool> evaluating_ = false;
  workers::BlockingPool pool_;          // for calls that wait for models or storage
  workers::BlockingPool explanations_;  // so that they never have all of its threads
  workers::BlockingPool refreshes_;     // of catalogs: likewise
  std::unique_ptr<Methods> methods_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_ADMIN_SERVICE_H_
