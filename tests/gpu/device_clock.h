// How long work takes on the device.

#ifndef OCTOGATE_TESTS_GPU_DEVICE_CLOCK_H_
#define OCTOGATE_TESTS_GPU_DEVICE_CLOCK_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <functional>

namespace octogate::bench {

// Seconds that one run of what `enqueue` puts into the stream takes: the median of
// `samples`, captured into a CUDA graph and run back to back, after warming up.
double SecondsOnDevice(cudaStream_t stream, const std::function<void()>& enqueue, int samples = 15);

// Bytes read and written each second by copies inside the device's memory.
double CopyBytesPerSecond(cudaStream_t stream, size_t bytes);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_GPU_DEVICE_CLOCK_H_
