// The backend for CPUs: SIMD kernels chosen at run time, weights read in place.

#ifndef OCTOGATE_KERNELS_CPU_CPU_BACKEND_H_
#define OCTOGATE_KERNELS_CPU_CPU_BACKEND_H_

#include <memory>

#include "kernels/backend.h"
#include "kernels/cpu/isa.h"

namespace octogate::kernels {

struct CpuBackendOptions {
  // Threads that compute, the caller included. 0: as many as the process may
  // run at once.
  int threads = 0;
  Isa isa = Isa::kAuto;
  // Binds each thread of the pool to a CPU of its own.
  bool pin_threads = false;
};

// Null where the instruction set is not supported or memory cannot be had.
// Results do not depend on any of the options.
std::unique_ptr<Backend> MakeCpuBackend(const CpuBackendOptions& options = {});

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_CPU_BACKEND_H_
