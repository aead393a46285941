#include <algorithm>
#include <utility>

#include "kernels/cuda/step_graphs.h"

namespace octogate::kernels::cuda {

void StepGraphs::Age() {
  constexpr uint64_t kHalfLife = 1024;
  if (steps_ % kHalfLife != 0) return;
  for (Entry& entry : entries_) entry.runs /= 2;
  for (Seen& seen : seen_) seen.runs /= 2;
}

StepGraphs::Seen& StepGraphs::Find(uint64_t fingerprint) {
  constexpr size_t kRemembered = 256;
  for (Seen& seen : seen_) {
    if (seen.fingerprint == fingerprint) return seen;
  }
  if (seen_.size() < kRemembered) return seen_.emplace_back(Seen{fingerprint, 0});
  Seen& oldest = seen_[next_seen_];
  next_seen_ = (next_seen_ + 1) % kRemembered;
  oldest = {fingerprint, 0};
  return oldest;
}

void StepGraphs::Run(const LaunchLog& log, StreamHandle stream) {
  if (log.empty()) return;
  ++steps_;
  Age();
  for (Entry& entry : entries_) {
    if (!entry.log.SameAs(log)) continue;
    ++entry.runs;
    ++counters_.replayed;
    return RunGraph(*entry.graph, stream);
  }
  const auto launch = [&] {
    ++counters_.launched;
    log.Run(stream);
  };
  if (capacity_ == 0) return launch();
  Seen& seen = Find(log.fingerprint());
  ++seen.runs;
  if (seen.runs < kGraphRun) return launch();
  if (entries_.size() == capacity_) {
    const auto least =
        std::min_element(entries_.begin(), entries_.end(),
                         [](const Entry& a, const Entry& b) { return a.runs < b.runs; });
    if (seen.runs < kTimesMore * least->runs) return launch();
    *least = std::move(entries_.back());
    entries_.pop_back();
  }
  Graph graph = MakeGraph(log, stream);
  if (graph == nullptr) return launch();  // no memory for one
  ++counters_.captured;
  entries_.push_back({log, std::move(graph), seen.runs});
  // Other steps with these kernels and blocks have to come again themselves.
  seen.runs = 0;
  RunGraph(*entries_.back().graph, stream);
}

}  // namespace octogate::kernels::cuda
