// A GPU on the host, for tests: runs the sources of kernels/cuda/ as plain C++.
//
// Every thread of a block is a fiber; a barrier or a warp operation switches to
// the next one. Blocks run one after the other. What a GPU leaves open is drawn
// at random in each launch, so that what is missing in a kernel shows:
//   - the order of the blocks, and of the threads of a block (a missing
//     barrier);
//   - when an asynchronous copy happens between its issue and its wait (a
//     missing wait, a buffer filled again too early);
//   - shared memory starts as NaNs and ends at a page that cannot be touched.
// The following end the process with a message: threads that meet at different
// barriers or not at all, a warp operation without all lanes, misaligned
// vectors, copies to what is not shared memory, a write before the block's
// shared memory or just behind it.
//
// Not emulated: time, and the rounding inside a matrix instruction (the sum is
// exact here and rounded once).
//
// Fibers, the arena and the random numbers belong to the calling thread.

#ifndef OCTOGATE_TESTS_KERNELS_CUDA_EMULATION_H_
#define OCTOGATE_TESTS_KERNELS_CUDA_EMULATION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>

namespace octogate::kernels::cuda::emulation {

// Without a queue, work is done when the call that asks for it returns.
class Queue;
struct Stream {
  Queue* queue = nullptr;  // emulated_stream.h
};
// Does `work` in the stream's order, or writes it down for later.
void Enqueue(Stream stream, std::function<void()> work);

struct GridSize {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
};

// Runs `kernel` once for each thread of the grid.
void Run(const GridSize& grid, int threads, size_t shared_bytes,
         const std::function<void()>& kernel);

// Seeds what is drawn at random from now on. Without it every run differs.
void Seed(uint64_t seed);

// 64 random bits.
uint64_t Random();

// Pieces of the device's and of pinned memory that have been taken so far.
uint64_t Allocations();
// Bytes that have been copied from the device so far, pages included.
uint64_t BytesToHost();

// The state of the running thread, for emulated_device.h.
struct Index3 {
  int x = 0;
  int y = 0;
  int z = 0;
};
int ThreadIndex();
int BlockThreads();
Index3 Block();
Index3 GridShape();
void* SharedMemory();

void Barrier(const std::source_location& where);

// A step that all lanes of a warp take together: once the last one has come,
// `step` is called with the operands and results of all 32.
struct LaneArguments {
  const void* in;
  void* out;
};
using WarpStep = void (*)(const LaneArguments (&lanes)[32]);
void WarpOperation(WarpStep step, const void* in, void* out, const std::source_location& where);

void CopyAsync(void* shared, const void* global, bool valid, const std::source_location& where);
void CopyAsyncCommit();
void CopyAsyncWait(int groups);

// Ends the process unless [address, address + bytes) is aligned to `bytes` and,
// for shared memory, inside the block's.
void CheckAligned(const void* address, size_t bytes, const std::source_location& where);
void CheckShared(const void* address, size_t bytes, const std::source_location& where);

}  // namespace octogate::kernels::cuda::emulation

#endif  // OCTOGATE_TESTS_KERNELS_CUDA_EMULATION_H_
