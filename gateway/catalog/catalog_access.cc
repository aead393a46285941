#include "gateway/catalog/catalog_access.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace octogate::gateway {

absl::StatusOr<const v1::CatalogAccess*> AccessOf(const v1::Catalog& catalog,
                                                  std::string_view tenant) {
  if (catalog.access().empty()) return nullptr;
  const v1::CatalogAccess* any = nullptr;
  for (const v1::CatalogAccess& access : catalog.access()) {
    if (access.tenant() == kAnyTenant) any = &access;
    // "*" is nobody's name.
    if (access.tenant() == tenant && tenant != kAnyTenant) return &access;
  }
  if (any != nullptr) return any;
  return absl::PermissionDeniedError(
      absl::StrCat("the catalog's access has no entry for the tenant ", Quoted(tenant), " or for ",
                   Quoted(kAnyTenant)));
}

schema::Permissions PermissionsOf(const v1::CatalogAccess* access) {
  schema::Permissions permissions;
  if (access == nullptr) return permissions;
  if (!access->tables().empty()) {
    permissions.tables = std::vector<std::string>(access->tables().begin(), access->tables().end());
  }
  for (const v1::VisibleColumns& visible : access->columns()) {
    std::vector<std::string>& columns = permissions.columns[visible.table()];
    columns.insert(columns.end(), visible.columns().begin(), visible.columns().end());
  }
  return permissions;
}

}  // namespace octogate::gateway
