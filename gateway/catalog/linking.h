// Links questions with catalogs of a graph.
#ifndef OCTOGATE_GATEWAY_CATALOG_LINKING_H_
#define OCTOGATE_GATEWAY_CATALOG_LINKING_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "gateway/catalog/catalog_set.h"
#include "octogate/v1/gateway.pb.h"

namespace octogate::gateway {

// What `question` of `tenant` needs of the catalog's present snapshot. Blocks for as long as a link
// takes; one that has not begun by `deadline`, or when `cancellation` (may be null) says so, does
// not begin. PERMISSION_DENIED where the tenant may see nothing; INVALID_ARGUMENT as of
// schema::Link. `request` is valid; its catalog is not looked at.
absl::StatusOr<v1::LinkSchemaResponse> LinkCatalog(const CatalogHandle& catalog,
                                                   const v1::LinkSchemaRequest& request,
                                                   const std::string& tenant, absl::Time deadline,
                                                   const Cancellation* cancellation);

// The request of a retriever node that is given `input`.
v1::LinkSchemaRequest RetrieverRequest(const v1::RetrieverNode& node, const std::string& input);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CATALOG_LINKING_H_
