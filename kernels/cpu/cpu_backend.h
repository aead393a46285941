// The backend for CPUs: SIMD kernels chosen at run time, weights copied into
// panels that are read as one stream (kernels/cpu/kernel_table.h).

#ifndef OCTOGATE_KERNELS_CPU_CPU_BACKEND_H_
#define OCTOGATE_KERNELS_CPU_CPU_BACKEND_H_

#include <cstdint>
#include <memory>

#include "kernels/backend.h"
#include "kernels/cpu/isa.h"

namespace octogate::kernels {

enum class Activations : uint8_t {
  kF32,
  // What is multiplied with BF16 weights is rounded to BF16 first, at most
  // kMaxBf16Columns (kernels/bf16_dot.h) of it, as the usual GPU servers do: many
  // times the speed for prompts and larger batches where there is AMX, at the
  // price of 8 bits of precision. Other instruction sets give the same bits at
  // about the speed of kF32.
  kBF16,
  // The same with weights in BF16 and in FP8, added in another order, which AVX512_BF16
  // computes at twice the rate of kF32; with AMX it is slower than kBF16.
  kBF16Pairs,
};

inline constexpr Activations kActivations[] = {Activations::kF32, Activations::kBF16,
                                               Activations::kBF16Pairs};

// The name that flags, graphs and logs use.
constexpr const char* Name(Activations activations) {
  switch (activations) {
    case Activations::kF32:
      return "f32";
    case Activations::kBF16:
      return "bf16";
    case Activations::kBF16Pairs:
      return "bf16-pairs";
  }
  return "?";
}

struct CpuBackendOptions {
  // Threads that compute, the caller included. 0: as many as the process may
  // run at once.
  int threads = 0;
  Isa isa = Isa::kAuto;
  Activations activations = Activations::kF32;
  // Binds each thread of the pool to a CPU of its own, and the one that calls
  // Backend::BindThread: to that of this number and those behind it, counted among
  // the CPUs that the process may use, from the last on to the first.
  bool pin_threads = false;
  int first_cpu = 0;
};

// Null where the instruction set is not supported or memory cannot be had.
// Results do not depend on the options, `activations` excepted.
std::unique_ptr<Backend> MakeCpuBackend(const CpuBackendOptions& options = {});

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_CPU_BACKEND_H_
