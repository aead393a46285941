#include "router/graph_cycles.h"

#include <algorithm>
#include <cstddef>

namespace octogate::router {

std::vector<Cycle> FindCycles(const std::vector<std::vector<Arc>>& arcs) {
  constexpr size_t kMaxCycles = 100;
  enum class State { kNew, kOpen, kDone };
  struct Frame {
    int node;
    size_t next = 0;
  };
  std::vector<State> states(arcs.size(), State::kNew);
  std::vector<Cycle> cycles;
  for (size_t start = 0; start < arcs.size(); ++start) {
    if (states[start] != State::kNew) continue;
    std::vector<Frame> walk = {{static_cast<int>(start)}};
    states[start] = State::kOpen;
    while (!walk.empty()) {
      Frame& frame = walk.back();
      if (frame.next == arcs[frame.node].size()) {
        states[frame.node] = State::kDone;
        walk.pop_back();
        continue;
      }
      const Arc& arc = arcs[frame.node][frame.next++];
      if (states[arc.to] == State::kNew) {
        states[arc.to] = State::kOpen;
        walk.push_back({arc.to});
      } else if (states[arc.to] == State::kOpen) {
        Cycle cycle{.nodes = {}, .closing_path = arc.path};
        const auto first = std::find_if(walk.begin(), walk.end(),
                                        [&](const Frame& f) { return f.node == arc.to; });
        for (auto it = first; it != walk.end(); ++it) cycle.nodes.push_back(it->node);
        cycles.push_back(std::move(cycle));
        if (cycles.size() == kMaxCycles) return cycles;
      }
    }
  }
  return cycles;
}

}  // namespace octogate::router
