#include "workers/engine/device.h"

#include <charconv>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/control_groups.h"
#include "common/strings.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"

namespace octogate::workers {
namespace {

absl::Status NoPairsOnGpu() {
  return absl::InvalidArgumentError(
      "the activations bf16-pairs are an order of additions that only CPUs have; choose f32 or "
      "bf16 for a GPU, or the device cpu");
}

}  // namespace

std::optional<DeviceName> ParseDevice(std::string_view name) {
  if (name == "auto") return DeviceName{.device = Device::kAuto};
  if (name == "cpu") return DeviceName{.device = Device::kCpu};
  if (name == "cuda") return DeviceName{.device = Device::kCuda};
  constexpr std::string_view kNumbered = "cuda:";
  if (!name.starts_with(kNumbered)) return std::nullopt;
  DeviceName parsed{.device = Device::kCuda};
  const std::string_view number = name.substr(kNumbered.size());
  const auto [end, error] =
      std::from_chars(number.data(), number.data() + number.size(), parsed.gpu);
  if (error != std::errc() || end != number.data() + number.size() || parsed.gpu < 0) {
    return std::nullopt;
  }
  return parsed;
}

std::string WhyNoDevice(std::string_view name) {
  if (ParseDevice(name)) return "";
  return absl::StrCat(Quoted(name), " is none of auto, cpu, cuda and cuda:N");
}

absl::StatusOr<ChosenBackend> ChooseBackend(const DeviceOptions& options) {
  const bool only_cpu = options.activations == kernels::Activations::kBF16Pairs;
  // Before a GPU is set up, which takes seconds, or found missing.
  if (only_cpu && options.device == Device::kCuda) return NoPairsOnGpu();
  ChosenBackend chosen;
  if (options.device != Device::kCpu) {
    std::string problem;
    chosen.backend = kernels::cuda::MakeBackend(
        {.device = options.gpu,
         .input_rounding = options.activations == kernels::Activations::kBF16
                               ? kernels::cuda::InputRounding::kRounded
                               : kernels::cuda::InputRounding::kSplit},
        &problem);
    if (chosen.backend != nullptr && only_cpu) return NoPairsOnGpu();
    if (chosen.backend != nullptr) return chosen;
    if (options.device == Device::kCuda) {
      return absl::UnavailableError(
          absl::StrCat(options.gpu == 0 ? "no GPU can be used"
                                        : absl::StrCat("the GPU ", options.gpu, " cannot be used"),
                       ": ", problem,
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
