// Streams of the emulated device: the work of each in its order, and how streams
// wait for each other and the host for them.
//
// Between one wait for a stream and the next, either all of its work is done as
// soon as it is queued or none of it before something waits, as is drawn at random:
// the host and other streams see what is too early and what is too late.
//
// All functions may be called by any thread; the device does one thing at a time.

#ifndef OCTOGATE_TESTS_KERNELS_CUDA_EMULATED_STREAM_H_
#define OCTOGATE_TESTS_KERNELS_CUDA_EMULATED_STREAM_H_

#include <cstdint>

#include "tests/kernels/cuda/emulation.h"

namespace octogate::kernels::cuda::emulation {

Queue* OpenQueue();
// Does what is left first. No Point of it is used afterwards.
void CloseQueue(Queue* queue);

// What a stream has been told before some moment.
struct Point {
  Queue* queue = nullptr;  // null: nothing
  uint64_t count = 0;
};
Point Told(Stream stream);

void Finish(const Point& point);
// Lets what is queued in `stream` from now on wait for the point.
void Follow(Stream stream, const Point& point);
// All that any open stream has been told.
void FinishAll();

}  // namespace octogate::kernels::cuda::emulation

#endif  // OCTOGATE_TESTS_KERNELS_CUDA_EMULATED_STREAM_H_
