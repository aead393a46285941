// Who may see what of a catalog.
#ifndef OCTOGATE_GATEWAY_CATALOG_CATALOG_ACCESS_H_
#define OCTOGATE_GATEWAY_CATALOG_CATALOG_ACCESS_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "octogate/v1/graph.pb.h"
#include "retrieval/schema/link_index.h"

namespace octogate::gateway {

// Stands for tenants without an entry of their own.
inline constexpr char kAnyTenant[] = "*";

// The entry that counts for the tenant. Null where the catalog has no `access` at all, which means
// everything; PERMISSION_DENIED where it has some and none for the tenant.
absl::StatusOr<const v1::CatalogAccess*> AccessOf(const v1::Catalog& catalog,
                                                  std::string_view tenant);

// What the entry allows; null: everything.
schema::Permissions PermissionsOf(const v1::CatalogAccess* access);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CATALOG_CATALOG_ACCESS_H_
