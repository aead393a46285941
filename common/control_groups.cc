#include "common/control_groups.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <thread>

namespace octogate {
namespace {

// The number in a file that holds one; nothing for "max" or a missing file.
std::optional<uint64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

// Calls visit(directory, is_version_2) for the groups of the process that have the controller, and
// for all above them, whose limits hold as well.
template <typename Visit>
void VisitGroups(const ControlGroupFiles& files, const std::string& controller,
                 const Visit& visit) {
  std::ifstream groups(files.membership);
  std::string line;
  while (std::getline(groups, line)) {
    // "hierarchy:controllers:path"; of version 2, without controllers.
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool is_version_2 = controllers == ",,";
    if (!is_version_2 && controllers.find("," + controller + ",") == std::string::npos) continue;
    const std::string root = is_version_2 ? files.root : files.root + "/" + controller;
    std::string path = line.substr(second + 1);
    while (true) {
      visit(root + path, is_version_2);
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/'));
    }
  }
}

// CPUs that a group may use at once on average.
std::optional<double> ReadCpuQuota(const std::string& directory, bool is_version_2) {
  double quota = 0;
  double period = 0;
  if (is_version_2) {
    std::ifstream file(directory + "/cpu.max");  // "max 100000" where there is none
    if (!(file >> quota >> period)) return std::nullopt;
  } else {
    std::ifstream quota_file(directory + "/cpu.cfs_quota_us");  // -1 where there is none
    std::ifstream period_file(directory + "/cpu.cfs_period_us");
    if (!(quota_file >> quota) || !(period_file >> period)) return std::nullopt;
  }
  if (!(quota > 0) || !(period > 0)) return std::nullopt;
  return quota / period;
}

}  // namespace

int AvailableCpus(const ControlGroupFiles& files) {
  double cpus = std::max(1U, std::thread::hardware_concurrency());
  VisitGroups(files, "cpu", [&](const std::string& directory, bool is_version_2) {
    cpus = std::min(cpus, ReadCpuQuota(directory, is_version_2).value_or(cpus));
  });
  // A thread more than the quota has CPUs would stop all of them for a part of each period.
  return std::max(1, static_cast<int>(std::floor(cpus)));
}

uint64_t BytesLeftByControlGroups(const ControlGroupFiles& files) {
  uint64_t left = kUnlimitedBytes;
  VisitGroups(files, "memory", [&](const std::string& directory, bool is_version_2) {
    const std::optional<uint64_t> limit =
        ReadNumber(directory + (is_version_2 ? "/memory.max" : "/memory.limit_in_bytes"));
    if (!limit) return;
    uint64_t used =
        ReadNumber(directory + (is_version_2 ? "/memory.current" : "/memory.usage_in_bytes"))
            .value_or(0);
    std::ifstream stat(directory + "/memory.stat");
    std::string key;
    uint64_t value = 0;
    while (stat >> key >> value) {
      if (key == "inactive_file" || key == "active_file") used -= std::min(used, value);
    }
    left = std::min(left, *limit - std::min(*limit, used));
  });
  return left;
}

}  // namespace octogate
