// The steps of a model as CUDA graphs: a step of some hundred kernels is then
// started by one call.
//
// A graph is made of a step's log of launches and stands for steps with the very
// same log, kernel by kernel and argument by argument. So nothing has to say what
// a step's shape is, and a graph with an address, a number of rows or a split of
// the context that is not this step's cannot be run: such a step has another log.
// What changes from step to step lies in memory that keeps its place
// (StepStaging in memory.h).
//
// Making a graph takes longer than starting its kernels one by one, so that it has
// to be run some times to pay. While there is room, one is made for every step that
// comes again. Then a step takes the place of the graph that was run least, but only
// where it has come kTimesMore times as often, both counted over the last thousand
// or two steps: so more shapes in turn than there is room for do not throw each
// other out, and those that come no more make room.

#ifndef OCTOGATE_KERNELS_CUDA_STEP_GRAPHS_H_
#define OCTOGATE_KERNELS_CUDA_STEP_GRAPHS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/graph.h"
#include "kernels/cuda/launch_log.h"
#include "kernels/cuda/step_counters.h"

namespace octogate::kernels::cuda {

class StepGraphs {
 public:
  // The run of a step with which its graph is made, where there is room: most shapes
  // of steps that hold prompts come once. Runs behind it are the graph's alone.
  static constexpr int kGraphRun = 2;
  static constexpr uint32_t kTimesMore = 2;

  // The number of graphs that are kept.
  explicit StepGraphs(size_t capacity = 64) : capacity_(capacity) {}

  // Starts the launches of `log`.
  void Run(const LaunchLog& log, StreamHandle stream);

  size_t capacity() const { return capacity_; }
  const StepCounters& counters() const { return counters_; }

 private:
  struct Entry {
    LaunchLog log;
    Graph graph;
    uint32_t runs = 0;  // of late
  };
  // Steps without a graph.
  struct Seen {
    uint64_t fingerprint = 0;
    uint32_t runs = 0;  // of late
  };

  void Age();
  Seen& Find(uint64_t fingerprint);

  const size_t capacity_;
  std::vector<Entry> entries_;
  std::vector<Seen> seen_;  // a ring
  size_t next_seen_ = 0;
  uint64_t steps_ = 0;
  StepCounters counters_;
};

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_STEP_GRAPHS_H_
