// kernels/cuda/device.h on the GPU: what each function is there says that file.

#ifndef OCTOGATE_KERNELS_CUDA_DEVICE_NVCC_H_
#define OCTOGATE_KERNELS_CUDA_DEVICE_NVCC_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "kernels/float8.h"

#define OCTOGATE_KERNEL static __global__
#define OCTOGATE_DEVICE static __device__ __forceinline__
#define OCTOGATE_DEVICE_MEMBER __device__ __forceinline__
#define OCTOGATE_LAUNCH_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)

namespace octogate::kernels::cuda {

inline constexpr unsigned kAllLanes = 0xFFFFFFFFu;

OCTOGATE_DEVICE int ThreadIndex() { return static_cast<int>(threadIdx.x); }
OCTOGATE_DEVICE int BlockThreads() { return static_cast<int>(blockDim.x); }
OCTOGATE_DEVICE int BlockX() { return static_cast<int>(blockIdx.x); }
OCTOGATE_DEVICE int BlockY() { return static_cast<int>(blockIdx.y); }
OCTOGATE_DEVICE int BlockZ() { return static_cast<int>(blockIdx.z); }
OCTOGATE_DEVICE int GridX() { return static_cast<int>(gridDim.x); }
OCTOGATE_DEVICE int GridY() { return static_cast<int>(gridDim.y); }
OCTOGATE_DEVICE int GridZ() { return static_cast<int>(gridDim.z); }

template <typename T>
OCTOGATE_DEVICE T* SharedMemory() {
  extern __shared__ __align__(16) unsigned char octogate_shared_memory[];
  return reinterpret_cast<T*>(octogate_shared_memory);
}

OCTOGATE_DEVICE void Barrier() { __syncthreads(); }
OCTOGATE_DEVICE void WarpBarrier() { __syncwarp(); }

template <typename T>
OCTOGATE_DEVICE T ShuffleXor(T value, int mask) {
  static_assert(sizeof(T) == 4);
  return __shfl_xor_sync(kAllLanes, value, mask);
}
OCTOGATE_DEVICE bool WarpAny(bool value) { return __any_sync(kAllLanes, value) != 0; }

OCTOGATE_DEVICE uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

OCTOGATE_DEVICE void CopyAsync(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(SharedAddress(shared)),
               "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}
OCTOGATE_DEVICE void CopyAsyncCommit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int kGroups>
OCTOGATE_DEVICE void CopyAsyncWait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kGroups) : "memory");
}

OCTOGATE_DEVICE Vector16 LoadVector(const void* from) {
  return *static_cast<const Vector16*>(from);
}
OCTOGATE_DEVICE void StoreVector(void* to, const Vector16& value) {
  *static_cast<Vector16*>(to) = value;
}

OCTOGATE_DEVICE void LoadMatrix4(const void* row, uint32_t (&m)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(SharedAddress(row))
               : "memory");
}
OCTOGATE_DEVICE void LoadMatrix4Transposed(const void* row, uint32_t (&m)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(SharedAddress(row))
               : "memory");
}

template <typename T>
OCTOGATE_DEVICE void Mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, Bf16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    static_assert(std::is_same_v<T, F16>);
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

OCTOGATE_DEVICE float ToFloat(float value) { return value; }
OCTOGATE_DEVICE float ToFloat(Bf16 value) {
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}
OCTOGATE_DEVICE float ToFloat(F16 value) { return __half2float(__ushort_as_half(value.bits)); }
OCTOGATE_DEVICE float ToFloat(F8 value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  uint32_t pair;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;\n" : "=r"(pair) : "h"(static_cast<uint16_t>(value.bits)));
  return __half2float(__ushort_as_half(static_cast<uint16_t>(pair)));
#else
  return Float8ToFloat(value.bits);
#endif
}
OCTOGATE_DEVICE float ToFloat(I8 value) { return static_cast<float>(value.code); }

template <typename T>
OCTOGATE_DEVICE T FromFloat(float value) {
  if constexpr (std::is_same_v<T, Bf16>) {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
  } else if constexpr (std::is_same_v<T, F16>) {
    return {__half_as_ushort(__float2half_rn(value))};
  } else if constexpr (std::is_same_v<T, F8>) {
    return {FloatToFloat8(value)};
  } else {
    return value;
  }
}

template <typename T>
OCTOGATE_DEVICE uint32_t Pack(float low, float high) {
  uint32_t packed;
  if constexpr (std::is_same_v<T, Bf16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(packed) : "f"(high), "f"(low));
  } else {
    static_assert(std::is_same_v<T, F16>);
    asm("cvt.rn.f16x2.f32 %0, %1, %2;\n" : "=r"(packed) : "f"(high), "f"(low));
  }
  return packed;
}

OCTOGATE_DEVICE uint32_t SubtractF16x2(uint32_t a, uint32_t b) {
  uint32_t difference;
  asm("sub.rn.f16x2 %0, %1, %2;\n" : "=r"(difference) : "r"(a), "r"(b));
  return difference;
}

OCTOGATE_DEVICE float Exp2(float x) {
  float y;
  asm("ex2.approx.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

OCTOGATE_DEVICE int AtomicIncrement(int* counter) { return atomicAdd(counter, 1); }
OCTOGATE_DEVICE void DeviceFence() { __threadfence(); }

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_DEVICE_NVCC_H_
