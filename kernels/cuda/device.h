// What a kernel may do beyond plain C++: its place in the grid, barriers, warp
// operations, asynchronous copies and matrix instructions. Two implementations:
// device_nvcc.h for the GPU and tests/kernels/cuda/emulation.h for the host,
// where the same kernels are tested on every machine.
//
//   OCTOGATE_KERNEL              a function that Launch starts
//   OCTOGATE_DEVICE              a function that kernels call (inlined)
//   OCTOGATE_DEVICE_MEMBER       the same in a class
//   OCTOGATE_LAUNCH_BOUNDS(threads, blocks)   threads of a block, and blocks
//                                that should fit on a multiprocessor; behind
//                                OCTOGATE_KERNEL
//
//   int ThreadIndex(), BlockThreads()             in the block, x only
//   int BlockX(), BlockY(), BlockZ(), GridX(), GridY(), GridZ()
//   T* SharedMemory<T>()         the block's dynamic shared memory, 16-aligned,
//                                undefined at first
//   void Barrier()               all threads of the block, none has returned
//   void WarpBarrier()           all 32 lanes of the warp, as everything below
//   T ShuffleXor(T value, int mask)      T: a 4-byte type
//   bool WarpAny(bool)
//
//   void CopyAsync(void* shared, const void* global, bool valid = true)
//                                16 aligned bytes; zeros where not valid
//                                (global is not read then)
//   void CopyAsyncCommit()       closes this thread's group of copies
//   void CopyAsyncWait<kGroups>()  until at most the kGroups latest groups of
//                                this thread are under way; other threads see
//                                the data after the next barrier
//   Vector16 LoadVector(const void*), void StoreVector(void*, Vector16)
//                                16 aligned bytes
//
//   void LoadMatrix4(const void* row, uint32_t (&m)[4])   ldmatrix: four 8 x 8
//   ... LoadMatrix4Transposed    matrices of 16 bits in shared memory;
//                                lane l gives the address of row l % 8 of
//                                matrix l / 8 (16-aligned); of matrix i lane l
//                                receives the elements 2 (l % 4) and
//                                2 (l % 4) + 1 of row l / 4
//   void Mma<T>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
//                                d += a * b, mma.m16n8k16: a is 16 x 16 of T
//                                (row l / 4 and + 8, columns 2 (l % 4) + {0, 1}
//                                and + 8: a[0] upper left, a[1] lower left,
//                                a[2] upper right, a[3] lower right), b is
//                                16 x 8 (column l / 4, rows as a's columns), d
//                                is 16 x 8 (d[0], d[1] in row l / 4, d[2],
//                                d[3] in row l / 4 + 8)
//
//   Bf16, F16, F8, I8            types of 16 and 8 bits, bits only; F8 is E4M3
//   float ToFloat(Bf16 | F16 | F8 | I8 | float), exact
//   T FromFloat<T>(float)        rounded to nearest even; T: not I8
//   uint32_t Pack<T>(float low, float high)
//   uint32_t SubtractF16x2(uint32_t a, uint32_t b)   of packed pairs, each
//                                difference rounded to F16
//   float Exp2(float)            2^x in the hardware's precision (2 ulp)
//   int AtomicIncrement(int*)    the value before; any block of the grid
//   void DeviceFence()           orders this thread's writes to global memory

#ifndef OCTOGATE_KERNELS_CUDA_DEVICE_H_
#define OCTOGATE_KERNELS_CUDA_DEVICE_H_

#include <cstdint>

#include "kernels/host_device.h"

namespace octogate::kernels::cuda {

inline constexpr int kWarpThreads = 32;

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};
struct F8 {
  uint8_t bits;
};
struct I8 {
  int8_t code;
};

struct alignas(16) Vector16 {
  uint32_t words[4];
};

}  // namespace octogate::kernels::cuda

#if defined(__CUDACC__)
#include "kernels/cuda/device_nvcc.h"
#else
#include "tests/kernels/cuda/emulated_device.h"
#endif

namespace octogate::kernels::cuda {

OCTOGATE_DEVICE int Lane() { return ThreadIndex() % kWarpThreads; }
OCTOGATE_DEVICE int Warp() { return ThreadIndex() / kWarpThreads; }

// Sums and maxima over a warp, the same bits in every lane: a butterfly, whose
// order is fixed because addition commutes.
OCTOGATE_DEVICE float WarpSum(float value) {
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) value += ShuffleXor(value, mask);
  return value;
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_DEVICE_H_
