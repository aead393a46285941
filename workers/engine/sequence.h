// One running generation, as far as scheduling is concerned.
#ifndef OCTOGATE_WORKERS_ENGINE_SEQUENCE_H_
#define OCTOGATE_WORKERS_ENGINE_SEQUENCE_H_

#include <cstdint>
#include <vector>

namespace octogate::workers {

struct Sequence {
  // Order of service: see RunsBefore.
  int priority = 0;
  uint64_t arrival = 0;  // unique

  // The prompt and the answer so far.
  std::vector<int32_t> tokens;
  // The keys and values of positions [0, computed) are in `pages`.
  int computed = 0;
  std::vector<int32_t> pages;

  bool running = false;  // or waiting
  int preemptions = 0;

  int length() const { return static_cast<int>(tokens.size()); }
  int uncomputed() const { return length() - computed; }
};

// Whether `a` is served before `b`: higher priority first, then earlier arrival.
inline bool RunsBefore(const Sequence& a, const Sequence& b) {
  if (a.priority != b.priority) return a.priority > b.priority;
  return a.arrival < b.arrival;
}

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_SEQUENCE_H_
