// Catalogs as operators see them.
#ifndef OCTOGATE_GATEWAY_CATALOG_CATALOG_INFO_H_
#define OCTOGATE_GATEWAY_CATALOG_CATALOG_INFO_H_

#include "absl/status/statusor.h"
#include "gateway/catalog/catalog_set.h"
#include "octogate/v1/admin.pb.h"
#include "octogate/v1/graph.pb.h"

namespace octogate::gateway {

// The catalog's present snapshot, and the nodes of `graph` that use it.
v1::CatalogInfo CatalogInfoOf(const CatalogHandle& catalog, const v1::Graph& graph);

// A page of tables of the present snapshot: what request.tenant may see, or everything without one;
// `info` is that of the whole catalog in any case. Pages end early rather than get larger than
// about 2 MiB. NOT_FOUND for a table that is not there or not visible, PERMISSION_DENIED for a
// tenant that may see nothing. `request` is valid; its name is not looked at.
absl::StatusOr<v1::GetCatalogResponse> CatalogPage(const CatalogHandle& catalog,
                                                   const v1::GetCatalogRequest& request,
                                                   const v1::Graph& graph);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CATALOG_CATALOG_INFO_H_
