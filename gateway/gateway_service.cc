#include "gateway/gateway_service.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/strings.h"
#include "gateway/cache/routing_cache.h"
#include "gateway/catalog/linking.h"
#include "gateway/choice/choice_decision.h"
#include "gateway/generate_call.h"
#include "gateway/tenant.h"

namespace octogate::gateway {
namespace {

absl::Status NoGraph() {
  return absl::UnavailableError("no graph has been applied yet; apply one with octoctl apply -f");
}

// Routers inside routers that one Route passes at most; the graph has no cycles of routers.
constexpr int kMaxRouters = 64;

constexpr int kFeedbackThreads = 1;
constexpr size_t kMaxQueuedFeedback = 64;
constexpr absl::Duration kMaxFeedbackTime = absl::Seconds(10);

constexpr int kLinkThreads = 2;

// The decisions of one Route, one router after the other. Keeps itself alive.
class RouteCourse : public std::enable_shared_from_this<RouteCourse> {
 public:
  using Done = std::function<void(absl::StatusOr<v1::RouteResponse>)>;

  // `find_session` calls back with where the request's session is with a router; empty where it has
  // none, or is of no matter. `metrics` outlives the course.
  using FindSession =
      std::function<void(const std::string& router, std::function<void(std::string node)> done)>;
  RouteCourse(std::shared_ptr<const GraphState> graph, router::RouteOptions options,
              Metrics* metrics, FindSession find_session, Done done)
      : graph_(std::move(graph)),
        options_(std::move(options)),
        metrics_(metrics),
        find_session_(std::move(find_session)),
        done_(std::move(done)) {}

  void Visit(const std::string& name, const std::string& argument) {
    const NodeRuntime* const node = graph_->FindNode(name);
    if (node == nullptr) {
      done_(absl::NotFoundError(absl::StrCat("node: the graph has no node \"", name, "\"")));
      return;
    }
    if (node->node->has_choice()) {
      VisitChoice(*node, argument);
      return;
    }
    if (!node->node->has_router() || response_.decisions_size() >= kMaxRouters) {
      response_.set_node(name);
      response_.set_argument(argument);
      done_(std::move(response_));
      return;
    }
    if (!ReadsSession(*node->node, options_)) {
      Decide(name, argument, "");
      return;
    }
    find_session_(name, [self = shared_from_this(), name, argument](std::string session_node) {
      self->Decide(name, argument, std::move(session_node));
    });
  }

 private:
  void Decide(const std::string& name, const std::string& argument, std::string session_node) {
    options_.session_node = std::move(session_node);
    RouteCached(graph_, name, argument, options_, /*bypass=*/false, metrics_,
                [self = shared_from_this()](absl::StatusOr<v1::Decision> decision) {
                  if (!decision.ok()) {
                    self->done_(decision.status());
                    return;
                  }
                  const std::string next = decision->node();
                  const std::string next_argument = decision->argument();
                  *self->response_.add_decisions() = *std::move(decision);
                  self->Visit(next, next_argument);
                });
  }

  // What the choice would take with all of the graph's budget.
  void VisitChoice(const NodeRuntime& node, const std::string& argument) {
    v1::GenerateRequest request;
    request.set_tenant(options_.context.tenant);
    request.add_messages()->set_content(argument);
    DrainList drained;
    drained.SetAll(options_.excluded);
    ChoiceDecision decision = DecideChoice(*graph_, node, argument, argument, request,
                                           QueryBudget(&graph_->graph(), request), drained);
    if (!decision.status.ok()) {
      done_(Annotate(decision.status, absl::StrCat("node \"", node.node->name(), "\"")));
      return;
    }
    response_.set_node(decision.event.node());
    response_.set_argument(argument);
    *response_.add_decisions() = std::move(decision.event);
    done_(std::move(response_));
  }

  const std::shared_ptr<const GraphState> graph_;
  router::RouteOptions options_;
  Metrics* const metrics_;
  const FindSession find_session_;
  const Done done_;
  v1::RouteResponse response_;
};

}  // namespace

GatewayService::GatewayService(const QueryEnvironment& environment, Admission* admission,
                               const AdmissionOptions& links, GraphSource graph,
                               FeedbackTaker take_feedback)
    : environment_(environment),
      admission_(admission),
      graph_(std::move(graph)),
      take_feedback_(std::move(take_feedback)),
      route_(&grpc_service_, &RawService::RequestRoute,
             [this](const v1::RouteRequest& request, absl::Time deadline,
                    std::shared_ptr<Cancellation> cancellation, auto done) {
               Route(request, deadline, std::move(cancellation), std::move(done));
             }),
      embed_(&grpc_service_, &RawService::RequestEmbed,
             [this](const v1::EmbedRequest& request, absl::Time deadline,
                    std::shared_ptr<Cancellation> cancellation, auto done) {
               Embed(request, deadline, std::move(cancellation), std::move(done));
             }),
      list_models_(
          &grpc_service_, &RawService::RequestListModels,
          [this](const v1::ListModelsRequest&, absl::Time, const std::shared_ptr<Cancellation>&,
                 auto done) { ListModels(std::move(done)); }),
      feedback_(&grpc_service_, &RawService::RequestFeedback,
                [this](const v1::FeedbackRequest& request, absl::Time deadline,
                       const std::shared_ptr<Cancellation>&,
                       auto done) { Feedback(request, deadline, std::move(done)); }),
      link_schema_(&grpc_service_, &RawService::RequestLinkSchema,
                   [this](const v1::LinkSchemaRequest& request, absl::Time deadline,
                          std::shared_ptr<Cancellation> cancellation, auto done) {
                     LinkSchema(request, deadline, std::move(cancellation), std::move(done));
                   }),
      feedback_threads_(kFeedbackThreads, kMaxQueuedFeedback),
      link_admission_(links, /*metrics=*/nullptr),
      // What is admitted finds a place.
      link_threads_(kLinkThreads, static_cast<size_t>(links.max_concurrent)) {}

GatewayService::~GatewayService() = default;

void GatewayService::Serve(EventLoops* loops) {
  loops_ = loops;
  for (size_t loop = 0; loop < loops->size(); ++loop) {
    GenerateCall::Accept(this, loop);
    route_.Serve(loops, loop);
    embed_.Serve(loops, loop);
    list_models_.Serve(loops, loop);
    feedback_.Serve(loops, loop);
    link_schema_.Serve(loops, loop);
  }
}

void GatewayService::Tick() {
  link_admission_.Tick();
  const absl::Time now = absl::Now();
  std::vector<GenerateCall*> calls;
  {
    absl::MutexLock lock(&mutex_);
    calls.assign(calls_.begin(), calls_.end());
    for (GenerateCall* call : calls) call->Keep();
  }
  for (GenerateCall* call : calls) {
    call->OnTick(now);
    call->Drop();
  }
}

void GatewayService::Register(GenerateCall* call) {
  absl::MutexLock lock(&mutex_);
  calls_.insert(call);
}

void GatewayService::Unregister(GenerateCall* call) {
  absl::MutexLock lock(&mutex_);
  calls_.erase(call);
}

void GatewayService::Route(const v1::RouteRequest& request, absl::Time deadline,
                           std::shared_ptr<Cancellation> cancellation,
                           std::function<void(absl::StatusOr<v1::RouteResponse>)> done) {
  std::shared_ptr<const GraphState> graph = graph_();
  if (graph == nullptr) {
    done(NoGraph());
    return;
  }
  const v1::GraphSpec& spec = graph->graph().spec();
  router::RouteOptions options;
  options.all_heads = request.all_heads();
  options.excluded = *environment_.drained->names();
  options.context.deadline =
      std::min(deadline, absl::Now() + absl::Milliseconds(spec.limits().timeout_ms()));
  options.context.cancellation = std::move(cancellation);
  options.context.tenant = TenantOf(request);
  const std::string& entry = request.node().empty() ? spec.entry() : request.node();
  options.stay = EndsWithToolResult(request);
  const auto find_session =
      [sessions = environment_.sessions, tenant = TenantOf(request), session = request.session()](
          const std::string& router, std::function<void(std::string node)> found) {
        if (session.empty()) {
          found("");
        } else {
          sessions->Find(tenant, session, router, std::move(found));
        }
      };
  if (EndsWithToolResult(request)) {  // It goes on as it came.
    done = [done = std::move(done),
            result = request.messages(request.messages_size() - 1).content()](
               absl::StatusOr<v1::RouteResponse> response) {
      if (response.ok()) {
        response->set_argument(result);
        for (v1::Decision& decision : *response->mutable_decisions()) decision.set_argument(result);
      }
      done(std::move(response));
    };
  }
  std::make_shared<RouteCourse>(graph, std::move(options), environment_.metrics, find_session,
                                std::move(done))
      ->Visit(entry, UserQueryOf(request));
}

void GatewayService::Embed(const v1::EmbedRequest& request, absl::Time deadline,
                           std::shared_ptr<Cancellation> cancellation,
                           std::function<void(absl::StatusOr<v1::EmbedResponse>)> done) {
  const std::shared_ptr<const GraphState> graph = graph_();
  if (graph == nullptr) {
    done(NoGraph());
    return;
  }
  const auto model = graph->models.find(request.model());
  if (model == graph->models.end()) {
    done(absl::NotFoundError(
        absl::StrCat("model: the graph has no model \"", request.model(), "\"")));
    return;
  }
  auto worker_request = std::make_shared<v1::WorkerEmbedRequest>();
  *worker_request->mutable_inputs() = request.inputs();
  *worker_request->mutable_terms() = ServiceTermsOf(TenantOf(request));
  const absl::Time limit =
      absl::Now() + absl::Milliseconds(graph->graph().spec().limits().timeout_ms());
  // Lives until the call is done.
  auto registration = std::make_shared<Cancellation::Registration>();
  auto call =
      model->second->Embed(std::move(worker_request), std::min(deadline, limit),
                           [done = std::move(done), graph,
                            registration](absl::StatusOr<v1::WorkerEmbedResponse> result) {
                             if (!result.ok()) {
                               done(result.status());
                               return;
                             }
                             v1::EmbedResponse response;
                             response.mutable_embeddings()->Swap(result->mutable_embeddings());
                             *response.mutable_usage() = result->usage();
                             done(std::move(response));
                           });
  *registration = cancellation->OnCancel([call] { call->Cancel(); });
}

void GatewayService::Feedback(const v1::FeedbackRequest& request, absl::Time deadline,
                              std::function<void(absl::StatusOr<v1::FeedbackResponse>)> done) {
  deadline = std::min(deadline, absl::Now() + kMaxFeedbackTime);
  const auto take = [this, request, deadline, done] { done(take_feedback_(request, deadline)); };
  if (!feedback_threads_.Submit(take)) {
    done(absl::ResourceExhaustedError("too much feedback is waiting to be stored"));
  }
}

void GatewayService::LinkSchema(const v1::LinkSchemaRequest& request, absl::Time deadline,
                                std::shared_ptr<Cancellation> cancellation,
                                std::function<void(absl::StatusOr<v1::LinkSchemaResponse>)> done) {
  const std::shared_ptr<const GraphState> graph = graph_();
  if (graph == nullptr) {
    done(NoGraph());
    return;
  }
  const auto known = graph->catalogs.find(request.catalog());
  if (known == graph->catalogs.end()) {
    done(absl::NotFoundError(
        absl::StrCat("catalog: the graph has no catalog ", Quoted(request.catalog()))));
    return;
  }
  const absl::Time limit =
      absl::Now() + absl::Milliseconds(graph->graph().spec().limits().timeout_ms());
  const router::CallContext context{.deadline = std::min(deadline, limit),
                                    .cancellation = std::move(cancellation),
                                    .tenant = TenantOf(request)};
  const auto start = [this, catalog = known->second, request, context,
                      done](const absl::Status& admitted) {
    if (admitted.ok()) {
      StartLink(catalog, request, context, done);
      return;
    }
    environment_.metrics->OnLink(admitted.code(), absl::ZeroDuration());
    done(admitted);
  };
  const std::optional<absl::Status> decision =
      link_admission_.Admit(context.tenant, context.deadline, start);
  if (decision.has_value()) start(*decision);
}

void GatewayService::StartLink(std::shared_ptr<const CatalogHandle> catalog,
                               const v1::LinkSchemaRequest& request,
                               const router::CallContext& context,
                               std::function<void(absl::StatusOr<v1::LinkSchemaResponse>)> done) {
  const absl::Time start = absl::Now();
  const auto finish = [this, tenant = context.tenant, start,
                       done](absl::StatusOr<v1::LinkSchemaResponse> link) {
    const absl::Duration ran = absl::Now() - start;
    environment_.metrics->OnLink(link.status().code(), ran);
    done(std::move(link));
    // The last use of the service: whoever waits for its turn is started by it.
    link_admission_.Release(tenant, ran);
  };
  const bool submitted =
      link_threads_.Submit([catalog = std::move(catalog), request, context, finish] {
        finish(LinkCatalog(*catalog, request, context));
      });
  if (!submitted)
    finish(absl::ResourceExhaustedError("too many links are waiting; try again later"));
}

void GatewayService::ListModels(std::function<void(absl::StatusOr<v1::ListModelsResponse>)> done) {
  const std::shared_ptr<const GraphState> graph = graph_();
  v1::ListModelsResponse response;
  if (graph == nullptr) {
    done(std::move(response));
    return;
  }
  for (const v1::Model& model : graph->graph().spec().models()) {
    v1::ModelInfo& info = *response.add_models();
    info.set_name(model.name());
    const auto replicas = graph->models.find(model.name());
    if (replicas != graph->models.end()) {
      info.set_replicas(replicas->second->size());
      info.set_replicas_ready(replicas->second->ready());
      if (const auto known = replicas->second->Info(); known.has_value()) {
        info.set_family(known->family());
        info.set_kind(known->kind());
        info.set_context_length(known->context_length());
        info.set_parameters(known->parameters());
      }
    }
    for (const v1::Node& node : graph->graph().spec().nodes()) {
      if (node.model().model() == model.name()) info.add_nodes(node.name());
    }
  }
  done(std::move(response));
}

}  // namespace octogate::gateway
