// The CUDA backend of a build without one.

#include "kernels/cuda/cuda_backend.h"

namespace octogate::kernels::cuda {

std::unique_ptr<Backend> MakeBackend(const Options& /*options*/, std::string* problem) {
  *problem =
      "this build has no CUDA backend; configure with -DOCTOGATE_CUDA=ON on a machine with nvcc";
  return nullptr;
}

const StepCounters& StepCountersOf(const Backend& /*backend*/) {
  static constexpr StepCounters kNone;  // MakeBackend makes none
  return kNone;
}

}  // namespace octogate::kernels::cuda
