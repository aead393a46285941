// The order in which a device works, and what happens when it fails.

#ifndef OCTOGATE_KERNELS_CUDA_STREAM_H_
#define OCTOGATE_KERNELS_CUDA_STREAM_H_

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include "tests/kernels/cuda/emulation.h"
#endif

namespace octogate::kernels::cuda {

#if defined(__CUDACC__)
using StreamHandle = cudaStream_t;

// Ends the process where `error` is one, with a message that names it: after a
// failed launch or copy the context of the device is lost for the process, and
// only a new one can go on. What may fail in a sound process (a missing device,
// memory that cannot be had) is asked for elsewhere and reported.
void CheckCuda(cudaError_t error, const char* doing);
#else
using StreamHandle = emulation::Stream;
#endif

class LaunchLog;

// Where launches go: to the device, in order, or for the time being into a log.
// Copies always go to the device.
struct Stream {
  Stream() = default;
  Stream(StreamHandle h) : handle(h) {}  // NOLINT: a stream without a log

  StreamHandle handle{};
  LaunchLog* log = nullptr;
};

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_STREAM_H_
