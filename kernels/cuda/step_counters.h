// How the steps of a CUDA backend were started.

#ifndef OCTOGATE_KERNELS_CUDA_STEP_COUNTERS_H_
#define OCTOGATE_KERNELS_CUDA_STEP_COUNTERS_H_

#include <cstdint>

namespace octogate::kernels::cuda {

struct StepCounters {
  uint64_t launched = 0;  // kernel by kernel
  uint64_t captured = 0;  // by a graph that was made of them
  uint64_t replayed = 0;  // by the graph of an earlier step
};

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_STEP_COUNTERS_H_
