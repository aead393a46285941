// What Linux's control groups leave a process of its machine: containers have a machine's CPUs and
// memory in sight, and no more of them than their group may use.
#ifndef OCTOGATE_COMMON_CONTROL_GROUPS_H_
#define OCTOGATE_COMMON_CONTROL_GROUPS_H_

#include <cstdint>
#include <limits>
#include <string>

namespace octogate {

// Where the kernel says so; elsewhere in tests.
struct ControlGroupFiles {
  std::string membership = "/proc/self/cgroup";
  std::string root = "/sys/fs/cgroup";
};

// Threads that may run at once: the CPUs that the process may use, or fewer where a group it is in,
// of version 1 or 2, has a quota of CPU time. At least 1.
int AvailableCpus(const ControlGroupFiles& files = {});

// Bytes that a process may still take before a group reaches its limit; what can be given back on
// demand, as the cache of files, counts as free. The largest number where nothing limits it.
inline constexpr uint64_t kUnlimitedBytes = std::numeric_limits<uint64_t>::max();
uint64_t BytesLeftByControlGroups(const ControlGroupFiles& files = {});

}  // namespace octogate

#endif  // OCTOGATE_COMMON_CONTROL_GROUPS_H_
