// Whose request it is, and what a worker is told of that.
#ifndef OCTOGATE_GATEWAY_TENANT_H_
#define OCTOGATE_GATEWAY_TENANT_H_

#include <string>

#include "octogate/v1/worker.pb.h"

namespace octogate::gateway {

// Of requests that name none.
inline constexpr char kDefaultTenant[] = "default";

// `Request` is one of the gateway's.
template <typename Request>
std::string TenantOf(const Request& request) {
  return request.tenant().empty() ? kDefaultTenant : request.tenant();
}

// The terms of every call that is made for a query of `tenant`: its fair share of the worker, and
// prefixes that only it finds. The tenant is the salt, which need not be secret: equality decides.
v1::WorkerServiceTerms ServiceTermsOf(const std::string& tenant);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_TENANT_H_
