// kernels/cuda/device.h on the host: what each function is there says that
// file.

#ifndef OCTOGATE_TESTS_KERNELS_CUDA_EMULATED_DEVICE_H_
#define OCTOGATE_TESTS_KERNELS_CUDA_EMULATED_DEVICE_H_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

#include "kernels/float16.h"
#include "kernels/float8.h"
#include "tests/kernels/cuda/emulation.h"

#define OCTOGATE_KERNEL [[maybe_unused]] static
#define OCTOGATE_DEVICE inline
#define OCTOGATE_DEVICE_MEMBER
#define OCTOGATE_LAUNCH_BOUNDS(threads, blocks)

namespace octogate::kernels::cuda {

using Where = std::source_location;

inline int ThreadIndex() { return emulation::ThreadIndex(); }
inline int BlockThreads() { return emulation::BlockThreads(); }
inline int BlockX() { return emulation::Block().x; }
inline int BlockY() { return emulation::Block().y; }
inline int BlockZ() { return emulation::Block().z; }
inline int GridX() { return emulation::GridShape().x; }
inline int GridY() { return emulation::GridShape().y; }
inline int GridZ() { return emulation::GridShape().z; }

template <typename T>
T* SharedMemory() {
  return static_cast<T*>(emulation::SharedMemory());
}

inline void Barrier(const Where& where = Where::current()) { emulation::Barrier(where); }
inline void WarpBarrier(const Where& where = Where::current()) {
  emulation::WarpOperation([](const emulation::LaneArguments(&)[32]) {}, nullptr, nullptr, where);
}

namespace emulated {

// in: the lane's value and the lane it reads from, out: that lane's value.
struct ShuffleInput {
  uint32_t bits;
  int from;
};

inline void ShuffleStep(const emulation::LaneArguments (&lanes)[32]) {
  for (const emulation::LaneArguments& lane : lanes) {
    const int from = static_cast<const ShuffleInput*>(lane.in)->from;
    std::memcpy(lane.out, &static_cast<const ShuffleInput*>(lanes[from].in)->bits, 4);
  }
}

template <typename T>
T ShuffleFrom(T value, int from, const Where& where) {
  static_assert(sizeof(T) == 4);
  ShuffleInput input{0, from};
  std::memcpy(&input.bits, &value, 4);
  T result;
  emulation::WarpOperation(ShuffleStep, &input, &result, where);
  return result;
}

inline void AnyStep(const emulation::LaneArguments (&lanes)[32]) {
  bool any = false;
  for (const emulation::LaneArguments& lane : lanes) any |= *static_cast<const bool*>(lane.in);
  for (const emulation::LaneArguments& lane : lanes) *static_cast<bool*>(lane.out) = any;
}

// in: the address of a row, out: four registers.
template <bool kTransposed>
void LoadMatrixStep(const emulation::LaneArguments (&lanes)[32]) {
  for (int l = 0; l < 32; ++l) {
    for (int i = 0; i < 4; ++i) {
      uint16_t pair[2];
      for (int e = 0; e < 2; ++e) {
        const int row = kTransposed ? 2 * (l % 4) + e : l / 4;
        const int column = kTransposed ? l / 4 : 2 * (l % 4) + e;
        std::memcpy(&pair[e], static_cast<const uint16_t*>(lanes[8 * i + row].in) + column, 2);
      }
      static_cast<uint32_t*>(lanes[l].out)[i] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
    }
  }
}

template <bool kTransposed>
void LoadMatrix(const void* row, uint32_t* m, const Where& where) {
  emulation::CheckShared(row, 16, where);
  emulation::WarpOperation(LoadMatrixStep<kTransposed>, row, m, where);
}

}  // namespace emulated

template <typename T>
T ShuffleXor(T value, int mask, const Where& where = Where::current()) {
  return emulated::ShuffleFrom(value, (ThreadIndex() % 32) ^ mask, where);
}
inline bool WarpAny(bool value, const Where& where = Where::current()) {
  bool result;
  emulation::WarpOperation(emulated::AnyStep, &value, &result, where);
  return result;
}

inline void CopyAsync(void* shared, const void* global, bool valid = true,
                      const Where& where = Where::current()) {
  emulation::CopyAsync(shared, global, valid, where);
}
inline void CopyAsyncCommit() { emulation::CopyAsyncCommit(); }
template <int kGroups>
void CopyAsyncWait() {
  emulation::CopyAsyncWait(kGroups);
}

inline Vector16 LoadVector(const void* from, const Where& where = Where::current()) {
  emulation::CheckAligned(from, 16, where);
  Vector16 value;
  std::memcpy(&value, from, 16);
  return value;
}
inline void StoreVector(void* to, const Vector16& value, const Where& where = Where::current()) {
  emulation::CheckAligned(to, 16, where);
  std::memcpy(to, &value, 16);
}

inline void LoadMatrix4(const void* row, uint32_t (&m)[4], const Where& where = Where::current()) {
  emulated::LoadMatrix<false>(row, m, where);
}
inline void LoadMatrix4Transposed(const void* row, uint32_t (&m)[4],
                                  const Where& where = Where::current()) {
  emulated::LoadMatrix<true>(row, m, where);
}

inline float ToFloat(float value) { return value; }
inline float ToFloat(Bf16 value) { return BFloat16ToFloat(value.bits); }
inline float ToFloat(F16 value) { return Float16ToFloat(value.bits); }
inline float ToFloat(F8 value) { return Float8ToFloat(value.bits); }
inline float ToFloat(I8 value) { return static_cast<float>(value.code); }

template <typename T>
T FromFloat(float value) {
  if constexpr (std::is_same_v<T, Bf16>) {
    return {FloatToBFloat16(value)};
  } else if constexpr (std::is_same_v<T, F16>) {
    return {FloatToFloat16(value)};
  } else if constexpr (std::is_same_v<T, F8>) {
    return {FloatToFloat8(value)};
  } else {
    return value;
  }
}

template <typename T>
uint32_t Pack(float low, float high) {
  return FromFloat<T>(low).bits | static_cast<uint32_t>(FromFloat<T>(high).bits) << 16;
}

inline uint32_t SubtractF16x2(uint32_t a, uint32_t b) {
  const auto half = [](uint32_t pair, int e) {
    return ToFloat(F16{static_cast<uint16_t>(pair >> (16 * e))});
  };
  return Pack<F16>(half(a, 0) - half(b, 0), half(a, 1) - half(b, 1));
}

namespace emulated {

struct MmaOperands {
  const uint32_t* a;
  const uint32_t* b;
};

template <typename T>
void MmaStep(const emulation::LaneArguments (&lanes)[32]) {
  const auto half = [](uint32_t pair, int e) {
    return ToFloat(T{static_cast<uint16_t>(pair >> (16 * e))});
  };
  float a[16][16];
  float b[8][16];  // by column
  for (int l = 0; l < 32; ++l) {
    const auto& operands = *static_cast<const MmaOperands*>(lanes[l].in);
    for (int e = 0; e < 2; ++e) {
      const int k = 2 * (l % 4) + e;
      for (int i = 0; i < 4; ++i) a[l / 4 + 8 * (i % 2)][k + 8 * (i / 2)] = half(operands.a[i], e);
      for (int i = 0; i < 2; ++i) b[l / 4][k + 8 * i] = half(operands.b[i], e);
    }
  }
  for (int l = 0; l < 32; ++l) {
    auto* d = static_cast<float*>(lanes[l].out);
    for (int i = 0; i < 4; ++i) {
      const float* row = a[l / 4 + 8 * (i / 2)];
      const float* column = b[2 * (l % 4) + i % 2];
      double sum = d[i];
      for (int k = 0; k < 16; ++k) sum += static_cast<double>(row[k]) * column[k];
      d[i] = static_cast<float>(sum);
    }
  }
}

}  // namespace emulated

template <typename T>
void Mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
         const Where& where = Where::current()) {
  const emulated::MmaOperands operands{a, b};
  emulation::WarpOperation(emulated::MmaStep<T>, &operands, d, where);
}

inline float Exp2(float x) { return std::exp2(x); }

inline int AtomicIncrement(int* counter) { return (*counter)++; }
inline void DeviceFence() {}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_TESTS_KERNELS_CUDA_EMULATED_DEVICE_H_
