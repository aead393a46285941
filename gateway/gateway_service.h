// The Gateway service: transport and admission in front of queries.
#ifndef OCTOGATE_GATEWAY_GATEWAY_SERVICE_H_
#define OCTOGATE_GATEWAY_GATEWAY_SERVICE_H_

#include <functional>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "gateway/admission.h"
#include "gateway/event_loop.h"
#include "gateway/graph_state.h"
#include "gateway/query.h"
#include "gateway/unary_method.h"
#include "octogate/v1/gateway.grpc.pb.h"
#include "workers/server/blocking_pool.h"

namespace octogate::gateway {

class GenerateCall;

// Thread safety: all methods may be called from any thread.
class GatewayService {
 public:
  using RawService = v1::Gateway::WithRawMethod_Generate<
      v1::Gateway::WithRawMethod_Route<v1::Gateway::WithRawMethod_Embed<
          v1::Gateway::WithRawMethod_ListModels<v1::Gateway::WithRawMethod_Feedback<
              v1::Gateway::WithRawMethod_LinkSchema<v1::Gateway::Service>>>>>>;
  // The applied graph, or null if there is none yet.
  using GraphSource = std::function<std::shared_ptr<const GraphState>()>;
  // Takes a user's feedback (feedback.h). May block.
  using FeedbackTaker = std::function<absl::StatusOr<v1::FeedbackResponse>(
      const v1::FeedbackRequest& request, absl::Time deadline)>;

  // Everything outlives the service. `links` admits calls of LinkSchema.
  GatewayService(const QueryEnvironment& environment, Admission* admission,
                 const AdmissionOptions& links, GraphSource graph, FeedbackTaker take_feedback);
  ~GatewayService();

  // To be registered with the server's builder.
  RawService* grpc_service() { return &grpc_service_; }

  // Takes calls on every loop, whose queues are the server's. Once, when the server has started.
  void Serve(EventLoops* loops);

  // Ends what is past its deadline and cannot end by itself, e.g. because its client does not read.
  // To be called every 100 ms or so.
  void Tick();

 private:
  friend class GenerateCall;

  // Calls that Tick looks at.
  void Register(GenerateCall* call);
  void Unregister(GenerateCall* call);

  void Route(const v1::RouteRequest& request, absl::Time deadline,
             std::shared_ptr<Cancellation> cancellation,
             std::function<void(absl::StatusOr<v1::RouteResponse>)> done);
  void Embed(const v1::EmbedRequest& request, absl::Time deadline,
             std::shared_ptr<Cancellation> cancellation,
             std::function<void(absl::StatusOr<v1::EmbedResponse>)> done);
  void ListModels(std::function<void(absl::StatusOr<v1::ListModelsResponse>)> done);
  void Feedback(const v1::FeedbackRequest& request, absl::Time deadline,
                std::function<void(absl::StatusOr<v1::FeedbackResponse>)> done);
  void LinkSchema(const v1::LinkSchemaRequest& request, absl::Time deadline,
                  std::shared_ptr<Cancellation> cancellation,
                  std::function<void(absl::StatusOr<v1::LinkSchemaResponse>)> done);
  // Of an admitted call: links on a thread, and makes room for the next one.
  void StartLink(std::shared_ptr<const CatalogHandle> catalog, const v1::LinkSchemaRequest& request,
                 const router::CallContext& context,
                 std::function<void(absl::StatusOr<v1::LinkSchemaResponse>)> done);

  const QueryEnvironment environment_;
  Admission* const admission_;
  const GraphSource graph_;
  const FeedbackTaker take_feedback_;
  RawService grpc_service_;
  EventLoops* loops_ = nullptr;
  UnaryMethod<RawService, v1::RouteRequest, v1::RouteResponse> route_;
  UnaryMethod<RawService, v1::EmbedRequest, v1::EmbedResponse> embed_;
  UnaryMethod<RawService, v1::ListModelsRequest, v1::ListModelsResponse> list_models_;
  UnaryMethod<RawService, v1::FeedbackRequest, v1::FeedbackResponse> feedback_;
  UnaryMethod<RawService, v1::LinkSchemaRequest, v1::LinkSchemaResponse> link_schema_;
  workers::BlockingPool feedback_threads_;  // for calls that wait for storage
  Admission link_admission_;
  workers::BlockingPool link_threads_;  // for calls that compute

  absl::Mutex mutex_;
  // That are looked up, or whose query has begun.
  absl::flat_hash_set<GenerateCall*> calls_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_GATEWAY_SERVICE_H_
