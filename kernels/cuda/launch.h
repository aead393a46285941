// How host code starts a kernel: the only place with a launch in CUDA syntax.
//
// A translation unit that includes this file compiles in two ways: with nvcc
// for the GPU, and as plain C++ for the emulation on the host
// (tests/kernels/cuda/emulation.h).
//
// A launch into a stream that has a log (stream.h) is only written down.
//
// Kernels are functions marked OCTOGATE_KERNEL. Blocks are one-dimensional and
// whole warps; shared memory is dynamic (SharedMemory<T>() in device.h) and at
// most kMaxSharedBytes.

#ifndef OCTOGATE_KERNELS_CUDA_LAUNCH_H_
#define OCTOGATE_KERNELS_CUDA_LAUNCH_H_

#include <bit>
#include <cstddef>

#include "kernels/cuda/launch_log.h"
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

// The least 2^i or 3 * 2^i that is not below `count` (> 0): what grows with a
// sequence is rounded so, that most of its steps have the same launches
// (step_graphs.h). Thread blocks with nothing to do end at once.
constexpr int RoundedCount(int count) {
  const int power = static_cast<int>(std::bit_ceil(static_cast<unsigned>(count)));
  return count <= power / 4 * 3 ? power / 4 * 3 : power;
}

// Blocks of `size` that cover `count`.
constexpr unsigned BlocksFor(long long count, int size) {
  return static_cast<unsigned>((count + size - 1) / size);
}

// The arguments of a kernel, by value.
template <typename... T>
struct ArgumentsOf {
  bool operator==(const ArgumentsOf&) const = default;
};
template <typename First, typename... Others>
struct ArgumentsOf<First, Others...> {
  First first;
  ArgumentsOf<Others...> others;
  bool operator==(const ArgumentsOf&) const = default;
};

template <typename... T>
struct LaunchCall {
  void (*kernel)(T...);
  Grid grid;
  int threads;
  size_t shared_bytes;
  ArgumentsOf<T...> arguments;
  bool operator==(const LaunchCall&) const = default;
};

// Starts the kernel of `call` with `arguments` behind those that `left` holds.
template <typename... T>
void Start(const LaunchCall<T...>& call, StreamHandle stream, const ArgumentsOf<>& /*left*/,
           T... arguments) {
#if defined(__CUDACC__)
  if (call.shared_bytes > (size_t{48} << 10)) {  // beyond this a kernel has to ask
    CheckCuda(cudaFuncSetAttribute(call.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(call.shared_bytes)),
              "asking for shared memory");
  }
  call.kernel<<<dim3(call.grid.x, call.grid.y, call.grid.z),
                dim3(static_cast<unsigned>(call.threads)), call.shared_bytes, stream>>>(
      arguments...);
  CheckCuda(cudaGetLastError(), "launching a kernel");
#else
  const emulation::GridSize grid{call.grid.x, call.grid.y, call.grid.z};
  emulation::Enqueue(
      stream, [=, kernel = call.kernel, threads = call.threads, shared_bytes = call.shared_bytes] {
        emulation::Run(grid, threads, shared_bytes, [&] { kernel(arguments...); });
      });
#endif
}
template <typename... T, typename First, typename... Others, typename... Done>
void Start(const LaunchCall<T...>& call, StreamHandle stream,
           const ArgumentsOf<First, Others...>& left, Done... done) {
  Start(call, stream, left.others, done..., left.first);
}

template <typename... T>
inline constexpr LaunchType kLaunchType{
    [](const void* a, const void* b) {
      return *static_cast<const LaunchCall<T...>*>(a) == *static_cast<const LaunchCall<T...>*>(b);
    },
    [](const void* call, StreamHandle stream) {
      const auto& typed = *static_cast<const LaunchCall<T...>*>(call);
      Start(typed, stream, typed.arguments);
    }};

template <typename First, typename... Others>
ArgumentsOf<First, Others...> MakeArguments(First first, Others... others) {
  if constexpr (sizeof...(Others) == 0) {
    return {first, {}};
  } else {
    return {first, MakeArguments<Others...>(others...)};
  }
}

template <typename... Parameters, typename... Arguments>
void Launch(Stream stream, Grid grid, int threads, size_t shared_bytes,
            void (*kernel)(Parameters...), Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  LaunchCall<Parameters...> call{kernel, grid, threads, shared_bytes, {}};
  if constexpr (sizeof...(Parameters) > 0) {
    call.arguments = MakeArguments<Parameters...>(static_cast<Parameters>(arguments)...);
  }
  if (stream.log != nullptr) {
    stream.log->Add(&kLaunchType<Parameters...>, call);
  } else {
    Start(call, stream.handle, call.arguments);
  }
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_LAUNCH_H_
