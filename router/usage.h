#ifndef OCTOGATE_ROUTER_USAGE_H_
#define OCTOGATE_ROUTER_USAGE_H_

#include "octogate/v1/gateway.pb.h"

namespace octogate::router {

// Adds up tokens, of every kind that Usage counts.
inline void AddUsage(const v1::Usage& usage, v1::Usage* sum) {
  sum->set_prompt_tokens(sum->prompt_tokens() + usage.prompt_tokens());
  sum->set_completion_tokens(sum->completion_tokens() + usage.completion_tokens());
  sum->set_cached_tokens(sum->cached_tokens() + usage.cached_tokens());
  sum->set_shared_tokens(sum->shared_tokens() + usage.shared_tokens());
}

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_USAGE_H_
