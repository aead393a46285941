// Which CPUs a thread of this process is bound to.
#ifndef OCTOGATE_TESTS_COMMON_THREAD_CPUS_H_
#define OCTOGATE_TESTS_COMMON_THREAD_CPUS_H_

#include <sched.h>
#include <sys/types.h>

#include <vector>

namespace octogate {

// The CPUs that a thread may run on, in order; 0: the calling thread. Empty for one that has ended.
inline std::vector<int> CpusOfThread(pid_t thread = 0) {
  std::vector<int> cpus;
  cpu_set_t allowed;
  if (sched_getaffinity(thread, sizeof(allowed), &allowed) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) cpus.push_back(cpu);
  }
  return cpus;
}

}  // namespace octogate

#endif  // OCTOGATE_TESTS_COMMON_THREAD_CPUS_H_
