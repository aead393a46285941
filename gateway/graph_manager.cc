#include "gateway/graph_manager.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/digest.h"
#include "common/status.h"
#include "gateway/node_grammar.h"
#include "gateway/node_status.h"
#include "router/graph_diff.h"
#include "router/graph_manifest.h"
#include "router/node_bounds.h"

namespace octogate::gateway {
namespace {

constexpr int kDefaultVersionsListed = 50;

std::string SourceOf(const std::string& source) { return source.empty() ? "manifest" : source; }

v1::QueryBounds BoundsOf(const v1::Graph& graph) {
  const router::GraphBounds bounds = router::WorstCase(graph);
  v1::QueryBounds message;
  message.set_steps(bounds.steps);
  message.set_calls(bounds.calls);
  message.set_cost(bounds.cost);
  message.set_time_ms(bounds.time_ms);
  return message;
}

// What is replaced by what this gateway does now; null: nothing.
router::ExpectedGraph SeenBy(const GraphState* state) {
  if (state == nullptr) return {};
  return {.version = state->version(), .digest = Sha256Hex(state->manifest)};
}

template <typename Response>
void SetChanges(std::vector<v1::GraphChange> changes, Response* response) {
  for (v1::GraphChange& change : changes) *response->add_changes() = std::move(change);
}

}  // namespace

class GraphManager::Turn {
 public:
  // `taken` is guarded by `mutex`.
  Turn(absl::Mutex* mutex, bool* taken, absl::Time deadline) : mutex_(mutex), taken_(taken) {
    absl::MutexLock lock(mutex_);
    const auto is_free = [this] { return !*taken_; };
    mine_ = mutex_->AwaitWithDeadline(absl::Condition(&is_free), deadline);
    if (mine_) *taken_ = true;
  }
  ~Turn() {
    if (!mine_) return;
    absl::MutexLock lock(mutex_);
    *taken_ = false;
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  absl::Status status() const {
    if (mine_) return absl::OkStatus();
    return absl::DeadlineExceededError("another call of this kind is still under way");
  }

 private:
  absl::Mutex* const mutex_;
  bool* const taken_;
  bool mine_ = false;
};

GraphManager::GraphManager(router::GraphStore* store, GraphBuilder* builder, DrainList* drained,
                           Metrics* metrics)
    : store_(store), builder_(builder), drained_(drained), metrics_(metrics) {}

std::shared_ptr<const GraphState> GraphManager::state() const {
  absl::MutexLock lock(&mutex_);
  return state_;
}

int64_t GraphManager::version() const {
  const std::shared_ptr<const GraphState> state = this->state();
  return state == nullptr ? 0 : state->version();
}

absl::Status GraphManager::CheckExpected(int64_t expected) const {
  const int64_t applied = version();
  if (expected == 0 || expected == applied) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat("version ", applied, " is applied, not ", expected,
                                         " as expected; look at it and try again"));
}

absl::StatusOr<std::shared_ptr<const GraphState>> GraphManager::Prepare(
    const v1::Graph& graph, int64_t version, const std::string& manifest, absl::Time deadline,
    std::vector<std::string>* warnings) {
  absl::StatusOr<std::shared_ptr<const GraphState>> prepared =
      builder_->Build(graph, version, manifest, state(), deadline, warnings);
  if (!prepared.ok()) metrics_->OnGraphRefused();
  return prepared;
}

absl::Status GraphManager::SwapIn(std::shared_ptr<const GraphState> prepared, int64_t version,
                                  absl::Time deadline) {
  if (prepared->version() != version) {
    // Heads and models are those already prepared: only the number is new.
    std::vector<std::string> warnings;
    OCTOGATE_ASSIGN_OR_RETURN(
        prepared, builder_->Build(prepared->graph(), version, prepared->manifest, prepared,
                                  deadline, &warnings));
  }
  absl::MutexLock lock(&mutex_);
  if (closed_) return absl::UnavailableError("the gateway is shutting down");
  metrics_->OnGraphApplied(version);
  state_.swap(prepared);  // The one before goes without the lock.
  return absl::OkStatus();
}

absl::StatusOr<bool> GraphManager::Restore(absl::Time deadline) {
  const Turn turn(&mutex_, &applying_, deadline);
  OCTOGATE_RETURN_IF_ERROR(turn.status());
  OCTOGATE_RETURN_IF_ERROR(SyncDrained(deadline));
  std::vector<std::string> warnings;
  OCTOGATE_ASSIGN_OR_RETURN(const router::StoredGraph stored, store_->Load(deadline, &warnings));
  const std::shared_ptr<const GraphState> applied = state();
  if (applied != nullptr && stored.info.version() <= applied->version()) {
    if (!warnings.empty()) return absl::DataLossError(warnings.front());
    // A store that has lost the applied version does not take it away: FindOther puts it back.
    if (stored.info.version() < applied->version()) return false;
    if (stored.info.digest() == Sha256Hex(applied->manifest)) return false;
  }
  OCTOGATE_ASSIGN_OR_RETURN(
      std::shared_ptr<const GraphState> prepared,
      Prepare(stored.graph, stored.info.version(), stored.manifest, deadline, &warnings));
  for (const std::string& warning : warnings) spdlog::warn("{}", warning);
  OCTOGATE_RETURN_IF_ERROR(SwapIn(std::move(prepared), stored.info.version(), deadline));
  return true;
}

absl::StatusOr<std::optional<v1::GraphVersion>> GraphManager::FindOther(absl::Time deadline,
                                                                        bool thorough) const {
  const std::shared_ptr<const GraphState> applied = state();
  if (applied != nullptr && !thorough) {
    OCTOGATE_ASSIGN_OR_RETURN(const bool is_newest, store_->IsNewest(applied->version(), deadline));
    if (is_newest) return std::nullopt;
  }
  absl::StatusOr<v1::GraphVersion> newest = store_->Newest(deadline);
  if (!newest.ok() && !absl::IsNotFound(newest.status())) return newest.status();
  if (applied == nullptr) {
    if (!newest.ok()) return std::nullopt;
    return *std::move(newest);
  }
  const int64_t version = applied->version();
  if (!newest.ok() || newest->version() < version) {
    router::StoredGraph lost;
    lost.info.set_version(version);
    lost.info.set_source("put back: the store had lost it");
    lost.graph = applied->graph();
    lost.manifest = applied->manifest;
    const absl::Status put = store_->PutBack(lost, deadline);
    if (!put.ok() && !absl::IsAborted(put)) return put;
    if (put.ok()) spdlog::warn("the store had lost graph version {}, it is put back", version);
    OCTOGATE_ASSIGN_OR_RETURN(newest, store_->Newest(deadline));
  }
  // A store that was set back may have another graph under the same number.
  if (newest->version() == version && newest->digest() == Sha256Hex(applied->manifest)) {
    return std::nullopt;
  }
  return *std::move(newest);
}

absl::StatusOr<v1::ApplyGraphResponse> GraphManager::Apply(const v1::ApplyGraphRequest& request,
                                                           absl::Time deadline) {
  const Turn turn(&mutex_, &applying_, deadline);
  OCTOGATE_RETURN_IF_ERROR(turn.status());
  OCTOGATE_RETURN_IF_ERROR(CheckExpected(request.expected_version()));
  return ApplyManifest(request.manifest(), SourceOf(request.source()), request.dry_run(), deadline);
}

absl::StatusOr<v1::ApplyGraphResponse> GraphManager::Edit(const GraphEdit& edit,
                                                          const std::string& source, bool dry_run,
                                                          int64_t expected_version,
                                                          absl::Time deadline) {
  const Turn turn(&mutex_, &applying_, deadline);
  OCTOGATE_RETURN_IF_ERROR(turn.status());
  OCTOGATE_RETURN_IF_ERROR(CheckExpected(expected_version));
  const std::shared_ptr<const GraphState> before = state();
  if (before == nullptr) {
    return absl::FailedPreconditionError(
        "no graph has been applied yet; apply one with octoctl apply -f");
  }
  v1::Graph graph = before->graph();
  OCTOGATE_RETURN_IF_ERROR(edit(&graph));
  return ApplyManifest(router::GraphToYaml(graph), source, dry_run, deadline);
}

absl::StatusOr<v1::ApplyGraphResponse> GraphManager::ApplyManifest(const std::string& text,
                                                                   const std::string& source,
                                                                   bool dry_run,
                                                                   absl::Time deadline) {
  OCTOGATE_ASSIGN_OR_RETURN(router::GraphManifest manifest,
                            router::ParseGraphManifest(text, source, {CheckTools, CheckGrammars}));
  const std::shared_ptr<const GraphState> before = state();
  v1::ApplyGraphResponse response;
  SetChanges(router::DiffGraphs(before == nullptr ? v1::Graph() : before->graph(), manifest.graph),
             &response);
  const int64_t applied = before == nullptr ? 0 : before->version();
  const bool changed = before == nullptr || response.changes_size() > 0;
  if (!changed && !dry_run) {
    // What changes nothing here may change what another gateway has applied.
    OCTOGATE_ASSIGN_OR_RETURN(const std::optional<v1::GraphVersion> other, FindOther(deadline));
    if (other) {
      return absl::AbortedError(absl::StrCat("another gateway has applied version ",
                                             other->version(), "; look at it and apply again"));
    }
  }
  response.set_version(changed ? applied + 1 : applied);
  *response.mutable_bounds() = BoundsOf(manifest.graph);
  if (dry_run) {
    OCTOGATE_RETURN_IF_ERROR(
        builder_->CheckFiles(manifest.graph, before.get(), deadline, &manifest.warnings));
  }
  if (changed && !dry_run) {
    OCTOGATE_ASSIGN_OR_RETURN(
        std::shared_ptr<const GraphState> prepared,
        Prepare(manifest.graph, applied + 1, text, deadline, &manifest.warnings));
    OCTOGATE_ASSIGN_OR_RETURN(const router::StoredGraph stored,
                              store_->Apply(text, source, SeenBy(before.get()), deadline));
    response.set_version(stored.info.version());
    OCTOGATE_RETURN_IF_ERROR(SwapIn(std::move(prepared), stored.info.version(), deadline));
  }
  for (std::string& warning : manifest.warnings) response.add_warnings(std::move(warning));
  return response;
}

absl::StatusOr<v1::RollbackGraphResponse> GraphManager::Rollback(
    const v1::RollbackGraphRequest& request, absl::Time deadline) {
  const Turn turn(&mutex_, &applying_, deadline);
  OCTOGATE_RETURN_IF_ERROR(turn.status());
  OCTOGATE_RETURN_IF_ERROR(CheckExpected(request.expected_version()));
  const std::shared_ptr<const GraphState> before = state();
  if (before == nullptr) return absl::FailedPreconditionError("no graph has been applied yet");
  int64_t target = request.version();
  if (target == 0) {
    OCTOGATE_ASSIGN_OR_RETURN(const std::vector<v1::GraphVersion> versions,
                              store_->List(2, deadline));
    if (versions.size() < 2) {
      return absl::NotFoundError("there is no version before the applied one");
    }
    target = versions[1].version();
  }
  OCTOGATE_ASSIGN_OR_RETURN(const router::StoredGraph old, store_->Get(target, deadline));
  v1::RollbackGraphResponse response;
  SetChanges(router::DiffGraphs(before->graph(), old.graph), &response);
  std::vector<std::string> warnings;
  OCTOGATE_ASSIGN_OR_RETURN(
      std::shared_ptr<const GraphState> prepared,
      Prepare(old.graph, before->version() + 1, old.manifest, deadline, &warnings));
  OCTOGATE_ASSIGN_OR_RETURN(const router::StoredGraph stored,
                            store_->Rollback(target, SeenBy(before.get()), deadline));
  OCTOGATE_RETURN_IF_ERROR(SwapIn(std::move(prepared), stored.info.version(), deadline));
  response.set_version(stored.info.version());
  return response;
}

absl::StatusOr<v1::GetGraphResponse> GraphManager::Get(const v1::GetGraphRequest& request,
                                                       absl::Time deadline) {
  v1::GetGraphResponse response;
  const std::shared_ptr<const GraphState> state = this->state();
  if (request.version() == 0 || (state != nullptr && request.version() == state->version())) {
    if (state == nullptr) {
      return absl::NotFoundError("no graph has been applied yet; apply one with octoctl apply -f");
    }
    response.set_version(state->version());
    *response.mutable_graph() = state->graph();
    response.set_manifest(state->manifest);
    *response.mutable_bounds() = BoundsOf(state->graph());
    return response;
  }
  OCTOGATE_ASSIGN_OR_RETURN(router::StoredGraph stored, store_->Get(request.version(), deadline));
  response.set_version(stored.info.version());
  *response.mutable_graph() = std::move(stored.graph);
  response.set_manifest(std::move(stored.manifest));
  *response.mutable_bounds() = BoundsOf(response.graph());
  return response;
}

absl::StatusOr<v1::ListGraphVersionsResponse> GraphManager::ListVersions(
    const v1::ListGraphVersionsRequest& request, absl::Time deadline) {
  const int limit = request.limit() == 0 ? kDefaultVersionsListed : request.limit();
  OCTOGATE_ASSIGN_OR_RETURN(std::vector<v1::GraphVersion> versions, store_->List(limit, deadline));
  const int64_t applied = version();
  v1::ListGraphVersionsResponse response;
  for (v1::GraphVersion& version : versions) {
    version.set_active(version.version() == applied);
    *response.add_versions() = std::move(version);
  }
  return response;
}

absl::StatusOr<v1::DiffGraphResponse> GraphManager::Diff(const v1::DiffGraphRequest& request,
                                                         absl::Time deadline) {
  const auto graph_of = [&](int64_t version) -> absl::StatusOr<v1::Graph> {
    v1::GetGraphRequest get;
    get.set_version(version);
    OCTOGATE_ASSIGN_OR_RETURN(v1::GetGraphResponse got, Get(get, deadline));
    return std::move(*got.mutable_graph());
  };
  v1::Graph before;
  // Before the first version everything is new.
  if (request.from_version() != 0 || state() != nullptr) {
    OCTOGATE_ASSIGN_OR_RETURN(before, graph_of(request.from_version()));
  }
  v1::Graph after;
  if (request.manifest().empty()) {
    OCTOGATE_ASSIGN_OR_RETURN(after, graph_of(request.to_version()));
  } else {
    OCTOGATE_ASSIGN_OR_RETURN(
        router::GraphManifest manifest,
        router::ParseGraphManifest(request.manifest(), SourceOf(request.source()),
                                   {CheckTools, CheckGrammars}));
    after = std::move(manifest.graph);
  }
  v1::DiffGraphResponse response;
  SetChanges(router::DiffGraphs(before, after), &response);
  return response;
}

absl::StatusOr<std::shared_ptr<const router::RoutingSnapshot>> GraphManager::PrepareRouting(
    int64_t version, const std::string& manifest, const std::string& source, absl::Time deadline,
    std::vector<std::string>* warnings) {
  const std::shared_ptr<const GraphState> applied = state();
  if (applied != nullptr && version != 0 && version == applied->version()) return applied->routing;
  v1::Graph graph;
  if (version != 0) {
    OCTOGATE_ASSIGN_OR_RETURN(router::StoredGraph stored, store_->Get(version, deadline));
    graph = std::move(stored.graph);
  } else {
    OCTOGATE_ASSIGN_OR_RETURN(
        router::GraphManifest parsed,
        router::ParseGraphManifest(manifest, SourceOf(source), {CheckTools, CheckGrammars}));
    graph = std::move(parsed.graph);
    for (std::string& warning : parsed.warnings) warnings->push_back(std::move(warning));
  }
  return builder_->BuildRouting(graph, version, applied, deadline, warnings);
}

absl::StatusOr<v1::ListNodesResponse> GraphManager::ListNodes(
    const v1::ListNodesRequest& request) const {
  const std::shared_ptr<const GraphState> state = this->state();
  v1::ListNodesResponse response;
  if (state == nullptr) {
    if (request.name().empty()) return response;
    return absl::NotFoundError("no graph has been applied yet");
  }
  response.set_graph_version(state->version());
  for (const v1::Node& node : state->graph().spec().nodes()) {
    if (!request.name().empty() && node.name() != request.name()) continue;
    *response.add_nodes() =
        StatusOf(*state->FindNode(node.name()), drained_->Contains(node.name()));
  }
  if (!request.name().empty() && response.nodes_size() == 0) {
    return absl::NotFoundError(absl::StrCat("the graph has no node \"", request.name(), "\""));
  }
  return response;
}

absl::StatusOr<v1::DescribeModelsResponse> GraphManager::DescribeModels(
    const v1::DescribeModelsRequest& request) const {
  const std::shared_ptr<const GraphState> state = this->state();
  v1::DescribeModelsResponse response;
  if (state == nullptr) {
    if (request.name().empty()) return response;
    return absl::NotFoundError("no graph has been applied yet");
  }
  response.set_graph_version(state->version());
  for (const v1::Model& model : state->graph().spec().models()) {
    if (!request.name().empty() && model.name() != request.name()) continue;
    *response.add_models() = StatusOf(model, *state);
  }
  if (!request.name().empty() && response.models().empty()) {
    return absl::NotFoundError(absl::StrCat("the graph has no model \"", request.name(), "\""));
  }
  return response;
}

absl::StatusOr<v1::DrainNodeResponse> GraphManager::DrainNode(const v1::DrainNodeRequest& request,
                                                              absl::Time deadline) {
  const Turn turn(&mutex_, &draining_, deadline);
  OCTOGATE_RETURN_IF_ERROR(turn.status());
  const std::shared_ptr<const GraphState> state = this->state();
  const NodeRuntime* const node = state == nullptr ? nullptr : state->FindNode(request.name());
  if (node == nullptr) {
    return absl::NotFoundError(absl::StrCat("the graph has no node \"", request.name(), "\""));
  }
  absl::Status written;
  do {
    written = absl::OkStatus();
    OCTOGATE_ASSIGN_OR_RETURN(DrainedRead read, ReadDrained(deadline));
    DrainList::Names& names = read.current.names;
    const auto place = std::lower_bound(names.begin(), names.end(), request.name());
    const bool present = place != names.end() && *place == request.name();
    if (!request.undo() && !present) names.insert(place, request.name());
    if (request.undo() && present) names.erase(place);
    // What the store has not taken is not in force either. One that is as wanted already stays.
    if (read.lost || names != read.stored.names) {
      ++read.current.revision;
      written = store_->SetDrained(read.stored, read.current, deadline);
    }
    if (written.ok()) TakeDrained(std::move(read.current));
  } while (absl::IsAborted(written));  // another gateway was faster; until the deadline
  OCTOGATE_RETURN_IF_ERROR(written);
  v1::DrainNodeResponse response;
  *response.mutable_node() = StatusOf(*node, drained_->Contains(request.name()));
  return response;
}

std::vector<Metrics::Replica> GraphManager::Replicas() const {
  std::vector<Metrics::Replica> result;
  const std::shared_ptr<const GraphState> state = this->state();
  if (state == nullptr) return result;
  for (const v1::Model& model : state->graph().spec().models()) {
    const ReplicaSet& replicas = *state->models.at(model.name());
    const std::vector<ReplicaChoiceCounts> choices = replicas.choice_counts();
    std::vector<v1::ReplicaStatus> statuses = replicas.Status();
    for (size_t i = 0; i < statuses.size(); ++i) {
      v1::ReplicaStatus& replica = statuses[i];
      if (!replica.has_info()) continue;
      result.push_back(
          {model.name(), replica.address(), std::move(*replica.mutable_info()), choices[i]});
    }
  }
  return result;
}

absl::StatusOr<GraphManager::DrainedRead> GraphManager::ReadDrained(absl::Time deadline) {
  absl::StatusOr<router::DrainedNodes> stored = store_->Drained(deadline);
  if (absl::IsDataLoss(stored.status())) {
    spdlog::warn("{}: what is known here takes its place", stored.status().ToString());
    OCTOGATE_RETURN_IF_ERROR(store_->ForgetDrained(deadline));
    stored = router::DrainedNodes();
  }
  OCTOGATE_RETURN_IF_ERROR(stored.status());
  DrainedRead read;
  read.current = *stored;
  read.stored = *std::move(stored);
  const std::shared_ptr<const DrainList::Names> known = drained_->names();
  absl::MutexLock lock(&mutex_);
  // Of one revision there are two lists where another gateway has put back an older one.
  if (read.stored.revision > drained_revision_) return read;
  if (read.stored.revision == drained_revision_ && read.stored.names == *known) return read;
  read.lost = true;
  read.current.revision = drained_revision_;
  read.current.names.clear();
  std::set_union(known->begin(), known->end(), read.stored.names.begin(), read.stored.names.end(),
                 std::back_inserter(read.current.names));
  return read;
}

void GraphManager::TakeDrained(router::DrainedNodes drained) {
  absl::MutexLock lock(&mutex_);
  drained_revision_ = drained.revision;
  drained_->SetAll(std::move(drained.names));
}

absl::Status GraphManager::SyncDrained(absl::Time deadline) {
  // A drain under way here has to be in the store before the list is read.
  const Turn turn(&mutex_, &draining_, deadline);
  OCTOGATE_RETURN_IF_ERROR(turn.status());
  OCTOGATE_ASSIGN_OR_RETURN(DrainedRead read, ReadDrained(deadline));
  if (read.lost) {
    ++read.current.revision;
    const absl::Status put = store_->SetDrained(read.stored, read.current, deadline);
    if (absl::IsAborted(put)) return absl::OkStatus();  // another gateway's notification follows
    OCTOGATE_RETURN_IF_ERROR(put);
    spdlog::warn("the store had lost which nodes are drained, it is put back");
  }
  const DrainList::Names& names = read.current.names;
  const std::shared_ptr<const DrainList::Names> before = drained_->names();
  for (const std::string& name : names) {
    if (!std::binary_search(before->begin(), before->end(), name)) {
      spdlog::info("node {} is drained, by what the store says", name);
    }
  }
  for (const std::string& name : *before) {
    if (!std::binary_search(names.begin(), names.end(), name)) {
      spdlog::info("node {} is back in service, by what the store says", name);
    }
  }
  TakeDrained(std::move(read.current));
  return absl::OkStatus();
}

absl::StatusOr<CacheCounts> GraphManager::FlushDecisions(const std::string& tenant,
                                                         absl::Time deadline) {
  CacheCounts flushed;
  if (const auto state = this->state(); state != nullptr) {
    flushed = state->caches->decisions.Flush(tenant);
  }
  OCTOGATE_ASSIGN_OR_RETURN(const router::CacheFlush flush, store_->Flush(tenant, deadline));
  TakeFlush(flush);
  return flushed;
}

absl::Status GraphManager::SyncFlushes(absl::Time deadline) {
  absl::StatusOr<router::CacheFlush> flush = store_->LastFlush(deadline);
  // Once for each time that it is damaged.
  if (absl::IsDataLoss(flush.status())) flush = router::CacheFlush{.id = "damaged"};
  OCTOGATE_RETURN_IF_ERROR(flush.status());
  TakeFlush(*flush);
  return absl::OkStatus();
}

void GraphManager::TakeFlush(const router::CacheFlush& flush) {
  // A store that has lost it says nothing new.
  if (flush.id.empty()) return;
  bool missed = false;
  {
    absl::MutexLock lock(&mutex_);
    if (flush.id == last_flush_) return;
    missed = flush.before != last_flush_;
    last_flush_ = flush.id;
  }
  const std::shared_ptr<const GraphState> state = this->state();
  if (state != nullptr) state->caches->decisions.Flush(missed ? "" : flush.tenant);
}

bool GraphManager::Ready() const {
  const std::shared_ptr<const GraphState> state = this->state();
  return state != nullptr &&
         std::all_of(state->models.begin(), state->models.end(),
                     [](const auto& model) { return model.second->ready() > 0; });
}

void GraphManager::Close() {
  std::shared_ptr<const GraphState> closed;
  absl::MutexLock lock(&mutex_);
  closed_ = true;
  state_.swap(closed);  // It goes without the lock.
}

void GraphManager::Tick() {
  const std::shared_ptr<const GraphState> state = this->state();
  if (state == nullptr) return;
  for (const auto& [name, replicas] : state->models) replicas->Tick();
}

}  // namespace octogate::gateway
