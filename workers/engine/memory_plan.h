// How large the KV cache of an engine may be, known before any weight is touched.
#ifndef OCTOGATE_WORKERS_ENGINE_MEMORY_PLAN_H_
#define OCTOGATE_WORKERS_ENGINE_MEMORY_PLAN_H_

#include <cstdint>
#include <limits>
#include <string_view>

#include "absl/status/statusor.h"

namespace octogate::workers {

struct MemoryDemand {
  uint64_t weight_bytes = 0;
  uint64_t activation_bytes = 0;
  uint64_t swap_bytes = 0;  // for preempted sequences, where the KV cache is in the same memory
  uint64_t page_bytes = 0;  // one page of keys and values in all layers
  int page_size = 1;        // positions
  // Pages that are asked for; or, where `flexible`, that are of use, of which at least
  // `minimum_pages` are needed.
  int64_t pages = 1;
  bool flexible = false;
  int64_t minimum_pages = 1;
  // A flexible cache leaves half of what the others leave: other programs grow too.
  uint64_t kv_limit_bytes = std::numeric_limits<uint64_t>::max();
};

// The number of pages to allocate, so that everything fits into `limit_bytes`. RESOURCE_EXHAUSTED
// with all the numbers and the cache that would fit.
absl::StatusOr<int> PlanPages(const MemoryDemand& demand, uint64_t limit_bytes,
                              std::string_view model_name);

// Memory that this process may still take: the smallest of what the system reports as available
// (/proc/meminfo) and what its control groups (versions 1 and 2) leave.
uint64_t AvailableMemoryBytes();

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_MEMORY_PLAN_H_
