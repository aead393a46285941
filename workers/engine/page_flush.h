// Forgetting the keys and values that sequences have left.
#ifndef OCTOGATE_WORKERS_ENGINE_PAGE_FLUSH_H_
#define OCTOGATE_WORKERS_ENGINE_PAGE_FLUSH_H_

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace octogate::workers {

// Which pages are to be forgotten.
struct PageFlush {
  static constexpr size_t kMaxIdBytes = 64;

  // Names the flush: engines that share a store and are told of the same one flush once. Not empty;
  // a-z and 0-9.
  std::string id;
  // Those of sequences with this ServiceTerms::cache_salt. Nothing: all.
  std::optional<std::string> cache_salt;
};

// Whether sequences of a context (see PrefixCache) are concerned.
using ContextFilter = std::function<bool(std::string_view context)>;

struct FlushedPages {
  int free = 0;    // had no owner
  int in_use = 0;  // are free when the sequences that run on them have ended; no other finds them
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_PAGE_FLUSH_H_
