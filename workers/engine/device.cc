#include "workers/engine/device.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/control_groups.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"

namespace octogate::workers {

std::optional<Device> ParseDevice(std::string_view name) {
  if (name == "auto") return Device::kAuto;
  if (name == "cpu") return Device::kCpu;
  if (name == "cuda") return Device::kCuda;
  return std::nullopt;
}

absl::StatusOr<ChosenBackend> ChooseBackend(const DeviceOptions& options) {
  ChosenBackend chosen;
  if (options.device != Device::kCpu) {
    std::string problem;
    chosen.backend = kernels::cuda::MakeBackend({}, &problem);
    if (chosen.backend != nullptr) return chosen;
    if (options.device == Device::kCuda) {
      return absl::UnavailableError(
          absl::StrCat("no GPU can be used: ", problem,
                       ". Check that `nvidia-smi` lists one and that this process may open "
                       "/dev/nvidia*, or choose the device cpu or auto"));
    }
    chosen.no_gpu = std::move(problem);
  }
  chosen.backend =
      kernels::MakeCpuBackend({.threads = options.threads > 0 ? options.threads : AvailableCpus(),
                               .activations = options.activations,
                               .pin_threads = options.pin_threads,
                               .first_cpu = options.first_cpu});
  if (chosen.backend != nullptr) return chosen;
  return absl::ResourceExhaustedError(
      absl::StrCat("the CPU backend cannot start with ", options.threads, " threads"));
}

}  // namespace octogate::workers
