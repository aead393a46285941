// A CUDA graph of a log's launches: the part of the runtime that step_graphs.h
// uses, with a second implementation for the emulation
// (tests/kernels/cuda/emulated_memory.cc).

#ifndef OCTOGATE_KERNELS_CUDA_GRAPH_H_
#define OCTOGATE_KERNELS_CUDA_GRAPH_H_

#include <memory>

#include "kernels/cuda/launch_log.h"
#include "kernels/cuda/stream.h"

namespace octogate::kernels::cuda {

struct RunnableGraph;
struct DestroyGraph {
  void operator()(RunnableGraph* graph) const;
};
using Graph = std::unique_ptr<RunnableGraph, DestroyGraph>;

// Captures the launches without running them. Their kernels have run before:
// loading one is not allowed in a capture. Null where memory cannot be had.
Graph MakeGraph(const LaunchLog& log, StreamHandle stream);
void RunGraph(const RunnableGraph& graph, StreamHandle stream);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_GRAPH_H_
