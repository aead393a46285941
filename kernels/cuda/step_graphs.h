// The steps of a model as CUDA graphs: a step of some hundred kernels is then
// started by one call.
//
// A graph is made of a step's log of launches and stands for steps with the very
// same log, kernel by kernel and argument by argument. So nothing has to say what
// a step's shape is, and a graph with an address, a number of rows or a split of
// the context that is not this step's cannot be run: such a step has another log.
// What changes from step to step lies in memory that keeps its place
// (StepStaging in memory.h).

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
  // The number of graphs that are kept: of the most recently used steps.
  explicit StepGraphs(size_t capacity = 64) : capacity_(capacity) {}

  // Starts the launches of `log`. A graph is made when a step like it comes for
  // the second time: most shapes of steps that hold prompts come once.
  void Run(const LaunchLog& log, StreamHandle stream);

  const StepCounters& counters() const { return counters_; }

 private:
  struct Entry {
    LaunchLog log;
    Graph graph;
    uint64_t used = 0;  // the last step that ran it
  };

  bool SeenBefore(uint64_t fingerprint);

  const size_t capacity_;
  std::vector<Entry> entries_;
  std::vector<uint64_t> seen_;  // fingerprints of steps without a graph, in a ring
  size_t next_seen_ = 0;
  uint64_t steps_ = 0;
  StepCounters counters_;
};

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_STEP_GRAPHS_H_
