#include "gateway/tenant.h"

#include "gateway/request_validation.h"
#include "workers/engine/request.h"

namespace octogate::gateway {

static_assert(RequestLimits::kMaxTenantBytes <= workers::ServiceTerms::kMaxTenantBytes,
              "workers would refuse what the gateway admits");

v1::WorkerServiceTerms ServiceTermsOf(const std::string& tenant) {
  v1::WorkerServiceTerms terms;
  terms.set_tenant(tenant);
  terms.set_cache_salt(tenant);
  return terms;
}

}  // namespace octogate::gateway
