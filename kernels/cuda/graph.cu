#include <new>

#include "kernels/cuda/graph.h"

namespace octogate::kernels::cuda {

struct RunnableGraph {
  cudaGraphExec_t graph;
};

void DestroyGraph::operator()(RunnableGraph* graph) const {
  cudaGraphExecDestroy(graph->graph);
  delete graph;
}

Graph MakeGraph(const LaunchLog& log, StreamHandle stream) {
  cudaGraph_t captured = nullptr;
  cudaGraphExec_t runnable = nullptr;
  CheckCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing a step");
  log.Run(stream);
  CheckCuda(cudaStreamEndCapture(stream, &captured), "capturing a step");
  const cudaError_t error = cudaGraphInstantiate(&runnable, captured, 0);
  cudaGraphDestroy(captured);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // forget it
    return nullptr;
  }
  CheckCuda(error, "making a graph of a step");
  RunnableGraph* graph = new (std::nothrow) RunnableGraph{runnable};
  if (graph == nullptr) cudaGraphExecDestroy(runnable);
  return Graph(graph);
}

void RunGraph(const RunnableGraph& graph, StreamHandle stream) {
  CheckCuda(cudaGraphLaunch(graph.graph, stream), "running a step");
}

}  // namespace octogate::kernels::cuda
