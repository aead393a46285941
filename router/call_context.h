#ifndef OCTOGATE_ROUTER_CALL_CONTEXT_H_
#define OCTOGATE_ROUTER_CALL_CONTEXT_H_

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "common/cancellation.h"

namespace octogate::router {

// How long a call may take, whether anyone still waits for it, and whose it is.
struct CallContext {
  absl::Time deadline = absl::InfiniteFuture();
  // Null: cannot be cancelled.
  std::shared_ptr<Cancellation> cancellation;
  // Models share nothing between the calls of different tenants.
  std::string tenant;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_CALL_CONTEXT_H_
