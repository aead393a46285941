// How host code starts a kernel: the only place with a launch in CUDA syntax.
//
// A translation unit that includes this file compiles in two ways: with nvcc
// for the GPU, and as plain C++ for the emulation on the host
// (tests/kernels/cuda/emulation.h), in which a launch has finished when Launch
// returns.
//
// Kernels are functions marked OCTOGATE_KERNEL. Blocks are one-dimensional and
// whole warps; shared memory is dynamic (SharedMemory<T>() in device.h) and at
// most kMaxSharedBytes.

#ifndef OCTOGATE_KERNELS_CUDA_LAUNCH_H_
#define OCTOGATE_KERNELS_CUDA_LAUNCH_H_

#include <cstddef>

#include "kernels/cuda/stream.h"

namespace octogate::kernels::cuda {

// What a block may have on every device from compute capability 8.0 on.
inline constexpr size_t kMaxSharedBytes = size_t{99} << 10;

// Most blocks in y or z of a launch whose number depends on the batch (kernels
// go on in strides): the hardware's limit, and a small one in the emulation, so
// that tests get beyond it.
#if defined(__CUDACC__)
inline constexpr int kMaxGridRows = 65535;
#else
inline constexpr int kMaxGridRows = 9;
#endif

// Blocks of a launch.
struct Grid {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
};

// Blocks of `size` that cover `count`.
constexpr unsigned BlocksFor(long long count, int size) {
  return static_cast<unsigned>((count + size - 1) / size);
}

#if defined(__CUDACC__)
template <typename... Parameters, typename... Arguments>
void Launch(Stream stream, Grid grid, int threads, size_t shared_bytes,
            void (*kernel)(Parameters...), Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared_bytes > (size_t{48} << 10)) {  // beyond this a kernel has to ask
    CheckCuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(shared_bytes)),
              "asking for shared memory");
  }
  kernel<<<dim3(grid.x, grid.y, grid.z), dim3(static_cast<unsigned>(threads)), shared_bytes,
           stream>>>(static_cast<Parameters>(arguments)...);
  CheckCuda(cudaGetLastError(), "launching a kernel");
}
#else
template <typename... Parameters, typename... Arguments>
void Launch(Stream /*stream*/, Grid grid, int threads, size_t shared_bytes,
            void (*kernel)(Parameters...), Arguments... arguments) {
  emulation::Run({grid.x, grid.y, grid.z}, threads, shared_bytes,
                 [=] { kernel(static_cast<Parameters>(arguments)...); });
}
#endif

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_LAUNCH_H_
