#include <algorithm>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/rope.cuh"
#include "kernels/cuda/rope.h"

namespace octogate::kernels::cuda {

void LaunchRope(Stream stream, const RopeArguments& arguments) {
  const int head_groups = (arguments.heads + kRopeHeads - 1) / kRopeHeads;
  const Grid grid{BlocksFor(arguments.frequencies, kRopeThreads),
                  static_cast<unsigned>(std::min(arguments.rows, kMaxGridRows)),
                  static_cast<unsigned>(std::min(head_groups, kMaxGridRows))};
  Launch(stream, grid, kRopeThreads, 0, RopeKernel, arguments);
}

}  // namespace octogate::kernels::cuda
