// What the context of a sequence (see PrefixCache) is made of: what beside the tokens decides its
// keys and values, and who may share them.
#ifndef OCTOGATE_WORKERS_ENGINE_PREFIX_CONTEXT_H_
#define OCTOGATE_WORKERS_ENGINE_PREFIX_CONTEXT_H_

#include <string>
#include <string_view>

#include "workers/model/rope.h"

namespace octogate::workers {

inline std::string PrefixContextOf(RopeRange range, std::string_view cache_salt) {
  std::string context(1, range == RopeRange::kLong ? 'l' : 's');
  context += cache_salt;
  return context;
}

inline std::string_view SaltOf(std::string_view context) {
  return context.empty() ? context : context.substr(1);
}

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_PREFIX_CONTEXT_H_
