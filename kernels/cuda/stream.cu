#include <cstdio>
#include <cstdlib>

#include "kernels/cuda/stream.h"

namespace octogate::kernels::cuda {

void CheckCuda(cudaError_t error, const char* doing) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "CUDA failed while %s: %s (%s); the process cannot go on and ends\n", doing,
               cudaGetErrorString(error), cudaGetErrorName(error));
  std::abort();
}

}  // namespace octogate::kernels::cuda
