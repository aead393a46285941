#include "gateway/graph_builder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "gateway/remote_model_client.h"
#include "gateway/replay/replay_client.h"
#include "gateway/replica_causal_model.h"
#include "gateway/replica_embedding_model.h"
#include "gateway/tools/tool.h"
#include "google/protobuf/util/message_differencer.h"
#include "router/node_bounds.h"
#include "router/plan.h"

namespace octogate::gateway {
namespace {

using google::protobuf::util::MessageDifferencer;

absl::StatusOr<std::unique_ptr<Tool>> MakeNodeTool(const v1::ToolNode& node) {
  return MakeTool(node.tool(), ToolParameters(node.parameters().begin(), node.parameters().end()));
}

// The name of the catalog that the node of a valid graph uses; empty: none.
std::string CatalogOf(const v1::Graph& graph, const v1::Node& node) {
  const v1::SqlGrammar& grammar = node.model().grammar().sql();
  if (!grammar.retriever().empty()) {
    return router::FindNode(graph, grammar.retriever())->retriever().catalog();
  }
  if (!grammar.catalog().empty()) return grammar.catalog();
  return node.has_sql() ? node.sql().catalog() : node.retriever().catalog();
}

std::shared_ptr<QueryCaches> MakeCaches(const SharedAnswersOptions& options,
                                        const GraphState& state, int64_t version,
                                        std::vector<std::string>* warnings) {
  const v1::Graph& graph = state.graph();
  const bool shares_decisions = graph.spec().cache().decisions().shared();
  if (options.values == nullptr) {
    if (shares_decisions) {
      warnings->push_back(
          "spec.cache.decisions.shared: this gateway's store is not in Redis, so that it shares "
          "nothing; start it with --store=redis://HOST:PORT");
    }
    return std::make_shared<QueryCaches>(graph.spec());
  }
  std::unique_ptr<SharedDecisions> decisions;
  if (shares_decisions) {
    decisions = std::make_unique<SharedDecisions>(options.values, &graph, version, state.manifest);
  }
  return std::make_shared<QueryCaches>(
      graph.spec(), std::make_unique<SharedAnswers>(options, &graph, version, state.manifest),
      std::move(decisions));
}

}  // namespace

std::vector<router::GraphProblem> CheckTools(const v1::Graph& graph) {
  std::vector<router::GraphProblem> problems;
  for (int i = 0; i < graph.spec().nodes_size(); ++i) {
    const v1::Node& node = graph.spec().nodes(i);
    if (!node.has_tool()) continue;
    if (const auto tool = MakeNodeTool(node.tool()); !tool.ok()) {
      problems.push_back({.path = absl::StrCat("spec.nodes[", i, "].tool.tool"),
                          .message = std::string(tool.status().message())});
    }
  }
  return problems;
}

GraphBuilder::GraphBuilder(EventLoops* loops, ModelLoader loader,
                           const GraphBuilderOptions& options)
    : loops_(loops), loader_(std::move(loader)), options_(options) {}

absl::Status GraphBuilder::BuildDecisions(const v1::Graph& graph, int64_t version,
                                          const absl::flat_hash_set<std::string>* needed,
                                          const std::shared_ptr<const GraphState>& previous,
                                          absl::Time deadline, GraphState* state,
                                          std::vector<std::string>* warnings) {
  for (const v1::Model& model : graph.spec().models()) {
    if (needed != nullptr && !needed->contains(model.name())) continue;
    std::shared_ptr<ReplicaSet> replicas;
    if (previous != nullptr) {
      const auto& known = previous->graph().spec().models();
      const auto same = std::find_if(known.begin(), known.end(), [&](const v1::Model& candidate) {
        return MessageDifferencer::Equals(candidate, model);
      });
      if (same != known.end()) replicas = previous->models.at(model.name());
    }
    if (replicas == nullptr) {
      absl::StatusOr<std::shared_ptr<ReplicaSet>> built = BuildReplicas(model, deadline);
      if (!built.ok()) {
        return Annotate(built.status(), absl::StrCat("model \"", model.name(), "\""));
      }
      replicas = *std::move(built);
    }
    state->models.emplace(model.name(), std::move(replicas));
  }
  AwaitWorkers(*state, warnings);

  const auto find_replicas =
      [&](std::string_view name) -> absl::StatusOr<std::shared_ptr<ReplicaSet>> {
    const auto model = state->models.find(std::string(name));
    if (model != state->models.end()) return model->second;
    return absl::NotFoundError(absl::StrCat("the graph has no model \"", std::string(name), "\""));
  };
  const router::ModelFinder find = {
      .causal = [&](std::string_view name) -> absl::StatusOr<std::shared_ptr<router::CausalModel>> {
        OCTOGATE_ASSIGN_OR_RETURN(std::shared_ptr<ReplicaSet> replicas, find_replicas(name));
        return std::make_shared<ReplicaCausalModel>(std::move(replicas));
      },
      .embedding =
          [&](std::string_view name) -> absl::StatusOr<std::shared_ptr<router::EmbeddingModel>> {
        OCTOGATE_ASSIGN_OR_RETURN(std::shared_ptr<ReplicaSet> replicas, find_replicas(name));
        return std::make_shared<ReplicaEmbeddingModel>(std::move(replicas));
      }};
  OCTOGATE_ASSIGN_OR_RETURN(
      state->routing,
      router::RoutingSnapshot::Build(graph, version, find, deadline,
                                     previous == nullptr ? nullptr : previous->routing.get()));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const router::RoutingSnapshot>> GraphBuilder::BuildRouting(
    const v1::Graph& graph, int64_t version, const std::shared_ptr<const GraphState>& previous,
    absl::Time deadline, std::vector<std::string>* warnings) {
  absl::flat_hash_set<std::string> needed;
  for (const v1::Node& node : graph.spec().nodes()) {
    for (const v1::Head& head : node.router().heads()) {
      if (head.has_encoder()) needed.insert(head.encoder().model());
      if (head.has_causal()) needed.insert(head.causal().model());
    }
    if (node.router().has_rewrite()) needed.insert(node.router().rewrite().causal().model());
  }
  GraphState state;
  OCTOGATE_RETURN_IF_ERROR(
      BuildDecisions(graph, version, &needed, previous, deadline, &state, warnings));
  return state.routing;
}

absl::StatusOr<std::shared_ptr<const GraphState>> GraphBuilder::Build(
    const v1::Graph& graph, int64_t version, std::string manifest,
    const std::shared_ptr<const GraphState>& previous, absl::Time deadline,
    std::vector<std::string>* warnings) {
  auto state = std::make_shared<GraphState>();
  state->manifest = std::move(manifest);
  OCTOGATE_RETURN_IF_ERROR(
      BuildDecisions(graph, version, nullptr, previous, deadline, state.get(), warnings));
  OCTOGATE_ASSIGN_OR_RETURN(
      state->recordings,
      ReadRecordings(state->graph(), options_.model_root,
                     previous == nullptr ? nullptr : &previous->recordings, deadline));
  const CatalogModels models = {
      .find =
          [&](std::string_view name) -> absl::StatusOr<std::shared_ptr<router::EmbeddingModel>> {
        return std::make_shared<ReplicaEmbeddingModel>(state->models.at(std::string(name)));
      },
      .is_unchanged =
          [&](const std::string& name) {
            if (previous == nullptr) return false;
            const auto known = previous->models.find(name);
            return known != previous->models.end() && known->second == state->models.at(name);
          }};
  OCTOGATE_ASSIGN_OR_RETURN(
      state->catalogs, ReadCatalogs(state->graph(), options_.model_root,
                                    previous == nullptr ? nullptr : &previous->catalogs, &models,
                                    deadline, warnings));
  LearnedChoices by_node;
  OCTOGATE_RETURN_IF_ERROR(LearnChoices(state->graph(), options_.model_root,
                                        previous == nullptr ? nullptr : &previous->choices,
                                        deadline, &state->choices, &by_node));
  state->caches = MakeCaches(options_.shared_answers, *state, version, warnings);
  absl::flat_hash_set<std::string> named;
  for (const v1::Edge& edge : state->graph().spec().edges()) {
    for (std::string& name : router::NodesNamedIn(edge.input())) named.insert(std::move(name));
  }
  for (const v1::Node& node : state->graph().spec().nodes()) {
    auto runtime = std::make_unique<NodeRuntime>();
    runtime->node = &node;
    runtime->counters = CountersOf(node.name());
    runtime->keeps_texts = named.contains(node.name());
    if (node.has_tool()) {
      OCTOGATE_ASSIGN_OR_RETURN(runtime->tool, MakeNodeTool(node.tool()));
    }
    if (node.has_replay()) {
      runtime->replay = NewReplayClient(state->recordings.at(node.replay().recording()).recording,
                                        node.replay().keep_time(), loops_);
    }
    if (node.has_choice()) runtime->choice = by_node.at(node.name());
    if (const std::string catalog = CatalogOf(graph, node); !catalog.empty()) {
      runtime->catalog = state->catalogs.at(catalog);
    }
    if (node.has_model()) runtime->replicas = state->models.at(node.model().model());
    state->nodes.emplace(node.name(), std::move(runtime));
  }
  return state;
}

absl::Status GraphBuilder::CheckFiles(const v1::Graph& graph, const GraphState* previous,
                                      absl::Time deadline,
                                      std::vector<std::string>* warnings) const {
  OCTOGATE_RETURN_IF_ERROR(ReadRecordings(graph, options_.model_root, nullptr, deadline).status());
  OCTOGATE_RETURN_IF_ERROR(ReadCatalogs(graph, options_.model_root,
                                        previous == nullptr ? nullptr : &previous->catalogs,
                                        /*models=*/nullptr, deadline, warnings)
                               .status());
  LearnedChoices choices;
  LearnedChoices by_node;
  return LearnChoices(graph, options_.model_root, nullptr, deadline, &choices, &by_node);
}

absl::StatusOr<std::shared_ptr<ReplicaSet>> GraphBuilder::BuildReplicas(const v1::Model& model,
                                                                        absl::Time deadline) {
  std::vector<std::unique_ptr<ModelClient>> clients;
  if (!model.path().empty()) {
    if (loader_ == nullptr) {
      return absl::FailedPreconditionError(
          "this gateway has no worker of its own; list the addresses of worker processes under "
          "'workers' instead of 'path'");
    }
    OCTOGATE_ASSIGN_OR_RETURN(std::unique_ptr<ModelClient> client, loader_(model, deadline));
    clients.push_back(std::move(client));
  }
  for (const std::string& address : model.workers()) {
    clients.push_back(NewRemoteModelClient(address, loops_));
  }
  return ReplicaSet::Create(model.name(), std::move(clients), options_.replicas);
}

void GraphBuilder::AwaitWorkers(const GraphState& state, std::vector<std::string>* warnings) const {
  std::vector<std::shared_ptr<ReplicaSet>> asked;
  for (const auto& [name, replicas] : state.models) {
    if (replicas->ready() > 0) continue;
    replicas->Tick();
    asked.push_back(replicas);
  }
  const absl::Time give_up = absl::Now() + options_.worker_timeout;
  for (const std::shared_ptr<ReplicaSet>& replicas : asked) {
    while (replicas->ready() == 0 && !replicas->has_failed() && absl::Now() < give_up) {
      absl::SleepFor(absl::Milliseconds(2));
    }
    if (replicas->ready() == 0) {
      warnings->push_back(
          absl::StrCat("model \"", replicas->model(), "\": none of its ", replicas->size(),
                       " workers answers yet; the last failure: ", replicas->LastError()));
    }
  }
}

std::shared_ptr<NodeCounters> GraphBuilder::CountersOf(const std::string& node) {
  absl::MutexLock lock(&mutex_);
  absl::erase_if(counters_, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<NodeCounters>& known = counters_[node];
  std::shared_ptr<NodeCounters> counters = known.lock();
  if (counters == nullptr) {
    counters = std::make_shared<NodeCounters>();
    known = counters;
  }
  return counters;
}

}  // namespace octogate::gateway
