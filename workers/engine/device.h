// Which hardware a model runs on.
#ifndef OCTOGATE_WORKERS_ENGINE_DEVICE_H_
#define OCTOGATE_WORKERS_ENGINE_DEVICE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"

namespace octogate::workers {

enum class Device : uint8_t {
  kAuto,  // the first GPU where one answers, otherwise the CPU
  kCpu,
  kCuda,  // a GPU, or nothing
};

// What a flag names.
struct DeviceName {
  Device device = Device::kCpu;
  int gpu = 0;  // DeviceOptions::gpu
  bool operator==(const DeviceName&) const = default;
};
// Of auto, cpu, cuda and cuda:N; nothing for what is none of these.
std::optional<DeviceName> ParseDevice(std::string_view name);
// Why ParseDevice makes nothing of it, and what would be right; empty where it does.
std::string WhyNoDevice(std::string_view name);

struct DeviceOptions {
  Device device = Device::kCpu;
  int gpu = 0;      // of kCuda: counted from 0, as the CUDA runtime does
  int threads = 0;  // of the CPU backend; 0: AvailableCpus()
  // A GPU takes what it multiplies with weights of 16 bits and in quantised formats, and attends
  // with, as two numbers of 16 bits, or as one (kBF16; InputRounding in
  // kernels/cuda/matmul_layout.h). kBF16Pairs is an order of additions that only CPUs have.
  kernels::Activations activations = kernels::Activations::kF32;
  // Each compute thread of the CPU backend, the engine's included, stays on a CPU of its own: that
  // of this number and those behind it, round and round. Faster where nothing else wants these
  // CPUs, slower where something does.
  bool pin_threads = false;
  int first_cpu = 0;
};

struct ChosenBackend {
  std::unique_ptr<kernels::Backend> backend;
  // Why it is the CPU although a GPU would have been taken; empty otherwise.
  std::string no_gpu;
};

// UNAVAILABLE where a GPU is asked for and none answers, with why and what to do;
// RESOURCE_EXHAUSTED where the CPU backend cannot start; INVALID_ARGUMENT for kBF16Pairs with
// kCuda, or with kAuto where a GPU answers.
absl::StatusOr<ChosenBackend> ChooseBackend(const DeviceOptions& options);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_DEVICE_H_
