#include "workers/engine/memory_plan.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace octogate::workers {
namespace {

std::string MiB(uint64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
}

// The number in a file that holds one; nothing for "max" or a missing file.
std::optional<uint64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

void LimitByControlGroup(const std::string& directory, const char* limit_file,
                         const char* usage_file, uint64_t& available) {
  const std::optional<uint64_t> limit = ReadNumber(directory + "/" + limit_file);
  if (!limit) return;
  // The page cache counts as usage but is given back on demand.
  uint64_t used = ReadNumber(directory + "/" + usage_file).value_or(0);
  std::ifstream stat(directory + "/memory.stat");
  std::string key;
  uint64_t value = 0;
  while (stat >> key >> value) {
    if (key == "inactive_file" || key == "active_file") used -= std::min(used, value);
  }
  available = std::min(available, *limit - std::min(*limit, used));
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
  // Each line is "hierarchy:controllers:path"; limits hold for a group and all above it.
  std::ifstream groups("/proc/self/cgroup");
  while (std::getline(groups, line)) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    while (true) {
      if (controllers.empty()) {
        LimitByControlGroup("/sys/fs/cgroup" + path, "memory.max", "memory.current", available);
      } else if (controllers.find("memory") != std::string::npos) {
        LimitByControlGroup("/sys/fs/cgroup/memory" + path, "memory.limit_in_bytes",
                            "memory.usage_in_bytes", available);
      }
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/'));
    }
  }
  return available;
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
