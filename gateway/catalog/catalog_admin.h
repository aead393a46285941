// What operators do with the catalogs of the applied graph.
#ifndef OCTOGATE_GATEWAY_CATALOG_CATALOG_ADMIN_H_
#define OCTOGATE_GATEWAY_CATALOG_CATALOG_ADMIN_H_

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/graph_manager.h"
#include "octogate/v1/admin.pb.h"

namespace octogate::gateway {

// Each is the call of the contract of that name, with a valid request, on the applied graph.
// NOT_FOUND for a catalog that it does not have, FAILED_PRECONDITION before the first graph.
absl::StatusOr<v1::PutCatalogResponse> PutCatalog(const v1::PutCatalogRequest& request,
                                                  absl::Time deadline, GraphManager* graphs);
absl::StatusOr<v1::ListCatalogsResponse> ListCatalogs(const GraphManager& graphs);
absl::StatusOr<v1::GetCatalogResponse> GetCatalog(const v1::GetCatalogRequest& request,
                                                  const GraphManager& graphs);
absl::StatusOr<v1::RefreshCatalogResponse> RefreshCatalog(const v1::RefreshCatalogRequest& request,
                                                          absl::Time deadline,
                                                          const GraphManager& graphs);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CATALOG_CATALOG_ADMIN_H_
