// Under which name drafters learn from a tenant's requests, where tenants share nothing.
#ifndef OCTOGATE_WORKERS_SPECULATION_DRAFT_SCOPE_H_
#define OCTOGATE_WORKERS_SPECULATION_DRAFT_SCOPE_H_

#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace octogate::workers {

// Of different tenants or salts never the same.
inline std::string DraftScopeOf(std::string_view tenant, std::string_view cache_salt) {
  return absl::StrCat(tenant.size(), ":", ToAbsl(tenant), ToAbsl(cache_salt));
}

// Whether it is one of the tenant's, with whatever salt.
inline bool IsDraftScopeOf(std::string_view tenant, std::string_view scope) {
  return scope.starts_with(DraftScopeOf(tenant, ""));
}

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_DRAFT_SCOPE_H_
