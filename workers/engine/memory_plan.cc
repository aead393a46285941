#include "workers/engine/memory_plan.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/control_groups.h"

namespace octogate::workers {
namespace {

std::string MiB(uint64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
}

}  // namespace

uint64_t AvailableMemoryBytes() {
  uint64_t available = std::numeric_limits<uint64_t>::max();
  std::ifstream meminfo("/proc/meminfo");
  std::string line;
  while (std::getline(meminfo, line)) {
    unsigned long long kib = 0;
    if (std::sscanf(line.c_str(), "MemAvailable: %llu kB", &kib) == 1) available = kib * 1024;
  }
  return std::min<uint64_t>(available, BytesLeftByControlGroups());
}

absl::StatusOr<int> PlanPages(const MemoryDemand& demand, uint64_t limit_bytes,
                              std::string_view model_name) {
  constexpr int64_t kMaxPages = std::numeric_limits<int32_t>::max();
  const uint64_t fixed = demand.weight_bytes + demand.activation_bytes + demand.swap_bytes;
  const uint64_t left = limit_bytes - std::min(limit_bytes, fixed);
  const auto pages_in = [&](uint64_t bytes) {
    return static_cast<int64_t>(
        std::min<uint64_t>(std::min(bytes, demand.kv_limit_bytes) / demand.page_bytes, kMaxPages));
  };
  const int64_t fitting = pages_in(left);
  int64_t pages = demand.pages;
  if (demand.flexible) {
    pages = std::min(pages, std::max(pages_in(left / 2), demand.minimum_pages));
  }
  if (pages <= fitting) return static_cast<int>(pages);

  std::string message =
      absl::StrCat(std::string(model_name), " does not fit: weights ", MiB(demand.weight_bytes),
                   " + activations ", MiB(demand.activation_bytes),
                   demand.swap_bytes > 0 ? " + swap space " + MiB(demand.swap_bytes) : "",
                   " + KV cache ", MiB(static_cast<uint64_t>(pages) * demand.page_bytes), " (",
                   pages * demand.page_size, " tokens) exceed ");
  if (fitting < pages && pages_in(std::numeric_limits<uint64_t>::max()) < pages) {
    absl::StrAppend(&message, "the KV cache's limit of ", MiB(demand.kv_limit_bytes), " or the ");
  }
  absl::StrAppend(&message, "memory limit of ", MiB(limit_bytes));
  if (fitting > 0) {
    absl::StrAppend(&message, "; a KV cache of ", fitting * demand.page_size, " tokens (",
                    MiB(static_cast<uint64_t>(fitting) * demand.page_bytes), ") would fit");
  } else {
    absl::StrAppend(&message, "; no KV cache would fit, at least ", MiB(fixed + demand.page_bytes),
                    " are needed");
  }
  return absl::ResourceExhaustedError(message);
}

}  // namespace octogate::workers
