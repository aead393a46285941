#include "gateway/catalog/catalog_admin.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/strings.h"
#include "gateway/catalog/catalog_info.h"
#include "gateway/catalog/catalog_set.h"
#include "gateway/graph_state.h"

namespace octogate::gateway {
namespace {

constexpr int kMaxNames = 1000;

absl::StatusOr<std::shared_ptr<const GraphState>> Applied(const GraphManager& graphs) {
  std::shared_ptr<const GraphState> state = graphs.state();
  if (state != nullptr) return state;
  return absl::FailedPreconditionError(
      "no graph has been applied yet; apply one with octoctl apply -f");
}

absl::StatusOr<std::shared_ptr<CatalogHandle>> Find(const GraphState& state,
                                                    const std::string& name) {
  const auto found = state.catalogs.find(name);
  if (found != state.catalogs.end()) return found->second;
  return absl::NotFoundError(
      absl::StrCat("the graph has no catalog ", Quoted(name), "; see octoctl catalog get"));
}

template <typename Add>
void AddNames(std::vector<std::string> names, Add add) {
  for (size_t i = 0; i < names.size() && i < kMaxNames; ++i) add(std::move(names[i]));
}

}  // namespace

absl::StatusOr<v1::PutCatalogResponse> PutCatalog(const v1::PutCatalogRequest& request,
                                                  absl::Time deadline, GraphManager* graphs) {
  const std::string& name = request.catalog().name();
  const auto put = [&](v1::Graph* graph) {
    auto& catalogs = *graph->mutable_spec()->mutable_catalogs();
    const auto known =
        std::find_if(catalogs.begin(), catalogs.end(),
                     [&](const v1::Catalog& catalog) { return catalog.name() == name; });
    *(known == catalogs.end() ? catalogs.Add() : &*known) = request.catalog();
    return absl::OkStatus();
  };
  OCTOGATE_ASSIGN_OR_RETURN(v1::ApplyGraphResponse applied,
                            graphs->Edit(put, absl::StrCat("catalog add ", name), request.dry_run(),
                                         request.expected_version(), deadline));
  v1::PutCatalogResponse response;
  response.set_version(applied.version());
  response.mutable_changes()->Swap(applied.mutable_changes());
  response.mutable_warnings()->Swap(applied.mutable_warnings());
  if (request.dry_run()) return response;
  // Another graph may have been applied since: then there need not be such a catalog.
  const std::shared_ptr<const GraphState> state = graphs->state();
  if (state == nullptr) return response;
  if (const auto catalog = state->catalogs.find(name); catalog != state->catalogs.end()) {
    *response.mutable_info() = CatalogInfoOf(*catalog->second, state->graph());
  }
  return response;
}

absl::StatusOr<v1::ListCatalogsResponse> ListCatalogs(const GraphManager& graphs) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::shared_ptr<const GraphState> state, Applied(graphs));
  v1::ListCatalogsResponse response;
  for (const v1::Catalog& catalog : state->graph().spec().catalogs()) {
    *response.add_catalogs() = CatalogInfoOf(*state->catalogs.at(catalog.name()), state->graph());
  }
  return response;
}

absl::StatusOr<v1::GetCatalogResponse> GetCatalog(const v1::GetCatalogRequest& request,
                                                  const GraphManager& graphs) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::shared_ptr<const GraphState> state, Applied(graphs));
  OCTOGATE_ASSIGN_OR_RETURN(const std::shared_ptr<CatalogHandle> catalog,
                            Find(*state, request.name()));
  return CatalogPage(*catalog, request, state->graph());
}

absl::StatusOr<v1::RefreshCatalogResponse> RefreshCatalog(const v1::RefreshCatalogRequest& request,
                                                          absl::Time deadline,
                                                          const GraphManager& graphs) {
  const absl::Time start = absl::Now();
  OCTOGATE_ASSIGN_OR_RETURN(const std::shared_ptr<const GraphState> state, Applied(graphs));
  OCTOGATE_ASSIGN_OR_RETURN(const std::shared_ptr<CatalogHandle> catalog,
                            Find(*state, request.name()));
  absl::StatusOr<CatalogChanges> changes = catalog->Refresh(deadline);
  if (!changes.ok()) {
    return Annotate(changes.status(), absl::StrCat("catalog ", Quoted(request.name())));
  }
  v1::RefreshCatalogResponse response;
  *response.mutable_info() = CatalogInfoOf(*catalog, state->graph());
  response.set_previous_version(changes->before->catalog->version());
  AddNames(std::move(changes->added),
           [&](std::string name) { response.add_added(std::move(name)); });
  AddNames(std::move(changes->removed),
           [&](std::string name) { response.add_removed(std::move(name)); });
  AddNames(std::move(changes->changed),
           [&](std::string name) { response.add_changed(std::move(name)); });
  if (const auto& dense = changes->after->dense; dense != nullptr) {
    response.set_embedded(static_cast<int64_t>(dense->num_embedded()));
  }
  response.set_duration_us(absl::ToInt64Microseconds(absl::Now() - start));
  return response;
}

}  // namespace octogate::gateway
