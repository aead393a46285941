#include <algorithm>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul_exact.cuh"
#include "kernels/cuda/matmul_exact.h"

namespace octogate::kernels::cuda {

void LaunchExactMatMul(Stream stream, const ExactMatMulArguments& arguments) {
  const Grid grid{
      BlocksFor(arguments.outputs, kExactOutputs),
      std::min(BlocksFor(arguments.rows, kExactRows), static_cast<unsigned>(kMaxGridRows))};
  Launch(stream, grid, kExactThreads, 0, ExactMatMulKernel, arguments);
}

}  // namespace octogate::kernels::cuda
