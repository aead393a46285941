// What a cache has been asked and what came of it.
#ifndef OCTOGATE_GATEWAY_CACHE_CACHE_COUNTS_H_
#define OCTOGATE_GATEWAY_CACHE_CACHE_COUNTS_H_

#include <cstdint>

namespace octogate::gateway {

struct CacheCounts {
  int64_t entries = 0;
  int64_t bytes = 0;
  int64_t lookups = 0;
  int64_t hits = 0;
  int64_t writes = 0;
  int64_t evictions = 0;  // For want of room; neither flushed nor expired.
  int64_t failures = 0;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_CACHE_COUNTS_H_
