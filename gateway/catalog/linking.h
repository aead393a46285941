// Links questions with catalogs of a graph.
#ifndef OCTOGATE_GATEWAY_CATALOG_LINKING_H_
#define OCTOGATE_GATEWAY_CATALOG_LINKING_H_

#include <string>

#include "absl/status/statusor.h"
#include "gateway/catalog/catalog_set.h"
#include "octogate/v1/gateway.pb.h"
#include "router/call_context.h"

namespace octogate::gateway {

// What `request.question` needs of the catalog's present snapshot, whose it is and until when as
// `context` says. Blocks while a link is computed and, for a catalog with `encoder`, until the
// question is embedded: without its vector there is no link. One whose time is over or that is
// cancelled does not begin. PERMISSION_DENIED where the tenant may see nothing; INVALID_ARGUMENT as
// of schema::Link; the encoder's errors. `request` is valid; its catalog and tenant are not looked
// at.
absl::StatusOr<v1::LinkSchemaResponse> LinkCatalog(const CatalogHandle& catalog,
                                                   const v1::LinkSchemaRequest& request,
                                                   const router::CallContext& context);

// The request of a retriever node that is given `input`.
v1::LinkSchemaRequest RetrieverRequest(const v1::RetrieverNode& node, const std::string& input);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CATALOG_LINKING_H_
