#include "gateway/admin_service.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gateway/cache/cache_admin.h"
#include "gateway/catalog/catalog_admin.h"
#include "gateway/decision_explanation.h"
#include "gateway/feedback.h"
#include "gateway/token_evaluation.h"
#include "gateway/token_learning.h"
#include "gateway/traffic_replay.h"
#include "gateway/unary_method.h"

namespace octogate::gateway {
namespace {

// An evaluation or a replay takes one at most.
constexpr int kThreads = 3;
constexpr size_t kMaxQueued = 64;
// Explanations may have to build a version and to ask models: one at a time, beside the pool.
constexpr size_t kMaxWaitingExplanations = 16;
constexpr int kDefaultTracesListed = 20;

using RawService = v1::Admin::WithRawMethod_ApplyGraph<v1::Admin::WithRawMethod_GetGraph<
    v1::Admin::WithRawMethod_ListGraphVersions<v1::Admin::WithRawMethod_DiffGraph<
        v1::Admin::WithRawMethod_RollbackGraph<v1::Admin::WithRawMethod_ListNodes<
            v1::Admin::WithRawMethod_DescribeModels<v1::Admin::WithRawMethod_DrainNode<
                v1::Admin::WithRawMethod_LearnToken<v1::Admin::WithRawMethod_ForgetToken<
                    v1::Admin::WithRawMethod_EvaluateTokens<v1::Admin::WithRawMethod_ListFeedback<
                        v1::Admin::WithRawMethod_PromoteFeedback<v1::Admin::WithRawMethod_GetTrace<
                            v1::Admin::WithRawMethod_ListTraces<v1::Admin::WithRawMethod_ExplainDecision<
                                v1::Admin::WithRawMethod_ReplayTraffic<v1::Admin::WithRawMethod_PutCatalog<
                                    v1::Admin::WithRawMethod_ListCatalogs<
                                        v1::Admin::WithRawMethod_GetCatalog<
                                            v1::Admin::WithRawMethod_RefreshCatalog<
                                                v1::Admin::WithRawMethod_GetServerInfo<
                                                    v1::Admin::WithRawMethod_GetCacheStats<
                                                        v1::Admin::WithRawMethod_FlushCache<
                                                            v1::Admin::WithRawMethod_ExplainCache<
                                                                v1::Admin::
                                                                    Service>>>>>>>>>>>>>>>>>>>>>>>>>;

// A handler that runs `method` on the pool.
template <typename Request, typename Response, typename Method>
UnaryHandler<Request, Response> OnPool(workers::BlockingPool* pool, Method method) {
  return [pool, method](const Request& request, absl::Time deadline,
                        const std::shared_ptr<Cancellation>&,
                        std::function<void(absl::StatusOr<Response>)> done) {
    deadline = std::min(deadline, absl::Now() + AdminService::kMaxCallTime);
    if (!pool->Submit([method, request, deadline, done] { done(method(request, deadline)); })) {
      done(absl::ResourceExhaustedError("too many calls to Admin are waiting"));
    }
  };
}

absl::StatusOr<v1::GetTraceResponse> GetTrace(const TraceStore& traces,
                                              const v1::GetTraceRequest& request,
                                              absl::Time deadline) {
  const auto trace = traces.Get(request.trace_id(), deadline);
  if (!trace.ok()) return trace.status();
  v1::GetTraceResponse response;
  *response.mutable_trace() = **trace;
  return response;
}

v1::ListTracesResponse ListTraces(const TraceStore& traces, const v1::ListTracesRequest& request,
                                  absl::Time deadline) {
  const int limit = request.limit() == 0 ? kDefaultTracesListed : request.limit();
  v1::ListTracesResponse response;
  for (const auto& trace : traces.List(limit, request.node(), deadline)) {
    v1::Trace& listed = *response.add_traces();
    listed.set_trace_id(trace->trace_id());
    listed.set_started_at_ms(trace->started_at_ms());
    listed.set_query(trace->query());
    listed.set_code(trace->code());
    listed.set_error(trace->error());
    listed.set_duration_us(trace->duration_us());
    listed.set_graph_version(trace->graph_version());
    listed.set_tenant(trace->tenant());
  }
  return response;
}

}  // namespace

struct AdminService::Methods {
  template <typename Request, typename Response>
  using Method = UnaryMethod<RawService, Request, Response>;

  explicit Methods(AdminService* admin)
      : apply(&service, &RawService::RequestApplyGraph,
              OnPool<v1::ApplyGraphRequest, v1::ApplyGraphResponse>(
                  &admin->pool_,
                  [graphs = admin->graphs_](const auto& request, absl::Time deadline) {
                    return graphs->Apply(request, deadline);
                  })),
        get(&service, &RawService::RequestGetGraph,
            OnPool<v1::GetGraphRequest, v1::GetGraphResponse>(
                &admin->pool_,
                [graphs = admin->graphs_](const auto& request, absl::Time deadline) {
                  return graphs->Get(request, deadline);
                })),
        list_versions(&service, &RawService::RequestListGraphVersions,
                      OnPool<v1::ListGraphVersionsRequest, v1::ListGraphVersionsResponse>(
                          &admin->pool_,
                          [graphs = admin->graphs_](const auto& request, absl::Time deadline) {
                            return graphs->ListVersions(request, deadline);
                          })),
        diff(&service, &RawService::RequestDiffGraph,
             OnPool<v1::DiffGraphRequest, v1::DiffGraphResponse>(
                 &admin->pool_,
                 [graphs = admin->graphs_](const auto& request, absl::Time deadline) {
                   return graphs->Diff(request, deadline);
                 })),
        rollback(&service, &RawService::RequestRollbackGraph,
                 OnPool<v1::RollbackGraphRequest, v1::RollbackGraphResponse>(
                     &admin->pool_,
                     [graphs = admin->graphs_](const auto& request, absl::Time deadline) {
                       return graphs->Rollback(request, deadline);
                     })),
        list_nodes(&service, &RawService::RequestListNodes,
                   [graphs = admin->graphs_](
                       const auto& request, absl::Time, const std::shared_ptr<Cancellation>&,
                       const auto& done) { done(graphs->ListNodes(request)); }),
        describe_models(&service, &RawService::RequestDescribeModels,
                        [graphs = admin->graphs_](
                            const auto& request, absl::Time, const std::shared_ptr<Cancellation>&,
                            const auto& done) { done(graphs->DescribeModels(request)); }),
        drain(&service, &RawService::RequestDrainNode,
              OnPool<v1::DrainNodeRequest, v1::DrainNodeResponse>(
                  &admin->pool_,
                  [graphs = admin->graphs_](const auto& request, absl::Time deadline) {
                    return graphs->DrainNode(request, deadline);
                  })),
        learn(&service, &RawService::RequestLearnToken,
              OnPool<v1::LearnTokenRequest, v1::LearnTokenResponse>(
                  &admin->pool_,
                  [graphs = admin->graphs_](const auto& request, absl::Time deadline) {
                    return LearnToken(request, deadline, graphs);
                  })),
        forget(&service, &RawService::RequestForgetToken,
               OnPool<v1::ForgetTokenRequest, v1::ForgetTokenResponse>(
                   &admin->pool_,
                   [graphs = admin->graphs_](const auto& request, absl::Time deadline) {
                     return ForgetToken(request, deadline, graphs);
                   })),
        evaluate(&service, &RawService::RequestEvaluateTokens,
                 [admin](const auto& request, absl::Time deadline,
                         const std::shared_ptr<Cancellation>& cancellation, const auto& done) {
                   admin->Evaluate(request, deadline, cancellation, done);
                 }),
        list_feedback(&service, &RawService::RequestListFeedback,
                      OnPool<v1::ListFeedbackRequest, v1::ListFeedbackResponse>(
                          &admin->pool_,
                          [store = admin->feedback_](const auto& request, absl::Time deadline) {
                            return ListFeedback(request, deadline, store);
                          })),
        promote(&service, &RawService::RequestPromoteFeedback,
                OnPool<v1::PromoteFeedbackRequest, v1::PromoteFeedbackResponse>(
                    &admin->pool_,
                    [admin](const auto& request, absl::Time deadline) {
                      return PromoteFeedback(request, deadline, admin->feedback_, admin->graphs_);
                    })),
        get_trace(&service, &RawService::RequestGetTrace,
                  OnPool<v1::GetTraceRequest, v1::GetTraceResponse>(
                      &admin->pool_,
                      [traces = admin->traces_](const auto& request, absl::Time deadline) {
                        return GetTrace(*traces, request, deadline);
                      })),
        list_traces(&service, &RawService::RequestListTraces,
                    OnPool<v1::ListTracesRequest, v1::ListTracesResponse>(
                        &admin->pool_,
                        [traces = admin->traces_](const auto& request, absl::Time deadline) {
                          return ListTraces(*traces, request, deadline);
                        })),
        explain(&service, &RawService::RequestExplainDecision,
                [admin](const auto& request, absl::Time deadline,
                        const std::shared_ptr<Cancellation>& cancellation, const auto& done) {
                  deadline = std::min(deadline, absl::Now() + kMaxCallTime);
                  const auto run = [admin, request, deadline, cancellation, done] {
                    done(ExplainDecision(request, deadline, cancellation, *admin->traces_,
                                         admin->graphs_));
                  };
                  if (!admin->explanations_.Submit(run)) {
                    done(absl::ResourceExhaustedError(
                        absl::StrCat(kMaxWaitingExplanations,
                                     " decisions wait to be explained; try again when some have "
                                     "been")));
                  }
                }),
        replay(&service, &RawService::RequestReplayTraffic,
               [admin](const auto& request, absl::Time deadline,
                       const std::shared_ptr<Cancellation>& cancellation, const auto& done) {
                 deadline = std::min(deadline, absl::Now() + kMaxCallTime);
                 admin->RunAlone<v1::ReplayTrafficResponse>(
                     [admin, request, deadline, cancellation] {
                       return ReplayTraffic(request, deadline, cancellation, *admin->traces_,
                                            admin->feedback_, admin->graphs_);
                     },
                     done);
               }),
        put_catalog(&service, &RawService::RequestPutCatalog,
                    OnPool<v1::PutCatalogRequest, v1::PutCatalogResponse>(
                        &admin->pool_,
                        [graphs = admin->graphs_](const auto& request, absl::Time deadline) {
                          return PutCatalog(request, deadline, graphs);
                        })),
        list_catalogs(
            &service, &RawService::RequestListCatalogs,
            OnPool<v1::ListCatalogsRequest, v1::ListCatalogsResponse>(
                &admin->pool_, [graphs = admin->graphs_](
                                   const auto&, absl::Time) { return ListCatalogs(*graphs); })),
        get_catalog(&service, &RawService::RequestGetCatalog,
                    OnPool<v1::GetCatalogRequest, v1::GetCatalogResponse>(
                        &admin->pool_,
                        [graphs = admin->graphs_](const auto& request, absl::Time) {
                          return GetCatalog(request, *graphs);
                        })),
        refresh_catalog(&service, &RawService::RequestRefreshCatalog,
                        OnPool<v1::RefreshCatalogRequest, v1::RefreshCatalogResponse>(
                            &admin->refreshes_,
                            [graphs = admin->graphs_](const auto& request, absl::Time deadline) {
                              return RefreshCatalog(request, deadline, *graphs);
                            })),
        get_cache_stats(&service, &RawService::RequestGetCacheStats,
                        [admin](const auto& request, absl::Time,
                                const std::shared_ptr<Cancellation>&, const auto& done) {
                          absl::StatusOr<v1::GetCacheStatsResponse> response =
                              GetCacheStats(request, *admin->graphs_);
                          if (response.ok() && admin->store_reachable_ != nullptr) {
                            response->set_store_reachable(admin->store_reachable_());
                          }
                          done(std::move(response));
                        }),
        flush_cache(&service, &RawService::RequestFlushCache,
                    OnPool<v1::FlushCacheRequest, v1::FlushCacheResponse>(
                        &admin->pool_,
                        [graphs = admin->graphs_](const auto& request, absl::Time deadline) {
                          return FlushCache(request, deadline, *graphs);
                        })),
        explain_cache(
            &service,
            &RawService::RequestExplainCache,
            OnPool<v1::ExplainCacheRequest, v1::ExplainCacheResponse>(&admin->explanations_,
                                                                      [admin](const auto& request,
                                                                              absl::Time deadline) {
                                                                        return ExplainCache(
                                                                            request, deadline,
                                                                            *admin->graphs_,
                                                                            *admin->drained_);
                                                                      })),
        get_server_info(
            &service, &RawService::RequestGetServerInfo,
            [admin](const auto&, absl::Time, const std::shared_ptr<Cancellation>&,
                    const auto& done) {
              v1::GetServerInfoResponse response;
              response.set_version(OCTOGATE_VERSION);
              response.set_uptime_s(absl::ToInt64Seconds(absl::Now() - admin->started_));
              const auto graph = admin->graphs_->state();
              response.set_graph_version(graph == nullptr ? 0 : graph->version());
              response.set_backend(admin->backend_());
              done(std::move(response));
            }) {}

  RawService service;
  Method<v1::ApplyGraphRequest, v1::ApplyGraphResponse> apply;
  Method<v1::GetGraphRequest, v1::GetGraphResponse> get;
  Method<v1::ListGraphVersionsRequest, v1::ListGraphVersionsResponse> list_versions;
  Method<v1::DiffGraphRequest, v1::DiffGraphResponse> diff;
  Method<v1::RollbackGraphRequest, v1::RollbackGraphResponse> rollback;
  Method<v1::ListNodesRequest, v1::ListNodesResponse> list_nodes;
  Method<v1::DescribeModelsRequest, v1::DescribeModelsResponse> describe_models;
  Method<v1::DrainNodeRequest, v1::DrainNodeResponse> drain;
  Method<v1::LearnTokenRequest, v1::LearnTokenResponse> learn;
  Method<v1::ForgetTokenRequest, v1::ForgetTokenResponse> forget;
  Method<v1::EvaluateTokensRequest, v1::EvaluateTokensResponse> evaluate;
  Method<v1::ListFeedbackRequest, v1::ListFeedbackResponse> list_feedback;
  Method<v1::PromoteFeedbackRequest, v1::PromoteFeedbackResponse> promote;
  Method<v1::GetTraceRequest, v1::GetTraceResponse> get_trace;
  Method<v1::ListTracesRequest, v1::ListTracesResponse> list_traces;
  Method<v1::ExplainDecisionRequest, v1::ExplainDecisionResponse> explain;
  Method<v1::ReplayTrafficRequest, v1::ReplayTrafficResponse> replay;
  Method<v1::PutCatalogRequest, v1::PutCatalogResponse> put_catalog;
  Method<v1::ListCatalogsRequest, v1::ListCatalogsResponse> list_catalogs;
  Method<v1::GetCatalogRequest, v1::GetCatalogResponse> get_catalog;
  Method<v1::RefreshCatalogRequest, v1::RefreshCatalogResponse> refresh_catalog;
  Method<v1::GetCacheStatsRequest, v1::GetCacheStatsResponse> get_cache_stats;
  Method<v1::FlushCacheRequest, v1::FlushCacheResponse> flush_cache;
  Method<v1::ExplainCacheRequest, v1::ExplainCacheResponse> explain_cache;
  Method<v1::GetServerInfoRequest, v1::GetServerInfoResponse> get_server_info;
};

AdminService::AdminService(GraphManager* graphs, TraceStore* traces, FeedbackStore* feedback,
                           const DrainList* drained, std::function<std::string()> backend,
                           std::function<bool()> store_reachable)
    : graphs_(graphs),
      traces_(traces),
      feedback_(feedback),
      drained_(drained),
      backend_(std::move(backend)),
      store_reachable_(std::move(store_reachable)),
      started_(absl::Now()),
      pool_(kThreads, kMaxQueued),
      explanations_(1, kMaxWaitingExplanations),
      refreshes_(1, kMaxQueued),
      methods_(std::make_unique<Methods>(this)) {}

AdminService::~AdminService() = default;

grpc::Service* AdminService::grpc_service() { return &methods_->service; }

void AdminService::Evaluate(
    const v1::EvaluateTokensRequest& request, absl::Time deadline,
    const std::shared_ptr<Cancellation>& cancellation,
    const std::function<void(absl::StatusOr<v1::EvaluateTokensResponse>)>& done) {
  std::shared_ptr<const GraphState> graph = graphs_->state();
  if (graph == nullptr) {
    done(absl::FailedPreconditionError(
        "no graph has been applied yet; apply one with octoctl apply -f"));
    return;
  }
  deadline = std::min(deadline, absl::Now() + kMaxCallTime);
  RunAlone<v1::EvaluateTokensResponse>(
      [graph, request, deadline, cancellation] {
        return EvaluateTokens(*graph->routing, request, deadline, cancellation);
      },
      done);
}

template <typename Response>
void AdminService::RunAlone(const std::function<absl::StatusOr<Response>()>& run,
                            const std::function<void(absl::StatusOr<Response>)>& done) {
  // The pool's other threads stay free for everything else.
  if (evaluating_.exchange(true)) {
    done(absl::ResourceExhaustedError(
        "another evaluation or replay is under way; try again when it has ended"));
    return;
  }
  const auto run_one = [this, run, done] {
    auto response = run();
    evaluating_ = false;
    done(std::move(response));
  };
  if (pool_.Submit(run_one)) return;
  evaluating_ = false;
  done(absl::ResourceExhaustedError("too many calls to Admin are waiting"));
}

void AdminService::Serve(EventLoops* loops) {
  constexpr size_t kLoop = 0;
  methods_->apply.Serve(loops, kLoop);
  methods_->get.Serve(loops, kLoop);
  methods_->list_versions.Serve(loops, kLoop);
  methods_->diff.Serve(loops, kLoop);
  methods_->rollback.Serve(loops, kLoop);
  methods_->list_nodes.Serve(loops, kLoop);
  methods_->describe_models.Serve(loops, kLoop);
  methods_->drain.Serve(loops, kLoop);
  methods_->learn.Serve(loops, kLoop);
  methods_->forget.Serve(loops, kLoop);
  methods_->evaluate.Serve(loops, kLoop);
  methods_->list_feedback.Serve(loops, kLoop);
  methods_->promote.Serve(loops, kLoop);
  methods_->get_trace.Serve(loops, kLoop);
  methods_->list_traces.Serve(loops, kLoop);
  methods_->explain.Serve(loops, kLoop);
  methods_->replay.Serve(loops, kLoop);
  methods_->put_catalog.Serve(loops, kLoop);
  methods_->list_catalogs.Serve(loops, kLoop);
  methods_->get_catalog.Serve(loops, kLoop);
  methods_->refresh_catalog.Serve(loops, kLoop);
  methods_->get_cache_stats.Serve(loops, kLoop);
  methods_->flush_cache.Serve(loops, kLoop);
  methods_->explain_cache.Serve(loops, kLoop);
  methods_->get_server_info.Serve(loops, kLoop);
}

}  // namespace octogate::gateway
