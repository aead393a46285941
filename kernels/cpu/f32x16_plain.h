// Sixteen float lanes as a plain array, for CPUs without a SIMD path of their
// own. Same interface as the other f32x16_*.h, which say less.
//
// The interface, in namespace octogate::kernels::<isa>:
//   F32x16      sixteen lanes; Zero, Broadcast, Load, LoadPartial (n < 16
//               values, then zeros), Store, StorePartial, Widen<T> and
//               WidenPartial<T> (weights, unaligned), arithmetic, Fma(a, b, c)
//               = a * b + c, Minimum/Maximum (the second where either is NaN),
//               Abs, ScaleByPowerOfTwo.
//   SumLanes    the tree of kernels/reduction_order.h.
//   SumLanes16  the tree for sixteen vectors at once: lane i of the result is
//               the sum of vector i.
//   Pair        two adjacent columns of a panel of weights (kernel_table.h), for
//               sixteen outputs: LoadPairs<T>, kPairsTogether<T> of them; of FP8 the
//               codes times 2^-8.
//   FmaFlushed, AddFlushed
//               the steps of kernels/bf16_dot.h while a SubnormalsFlushed is alive.
//   kDenseTileRows, DenseTilePairs(tile_rows), Bf16TilePanels(tile_rows)
//               what a tile of a product keeps in registers: rows of x at most, and
//               pairs of each group, or panels, beside so many.
//   kManyRowsTile, kManyRowsPanels
//               the same of products of many rows: rows of x and panels.
//   kStreamedRows
//               so many wait for memory, which is fastest in order, even if some
//               sums of all the pairs then have no register.

#ifndef OCTOGATE_KERNELS_CPU_F32X16_PLAIN_H_
#define OCTOGATE_KERNELS_CPU_F32X16_PLAIN_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/bf16_dot.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/dtype.h"
#include "kernels/elementary.h"
#include "kernels/float16.h"
#include "kernels/float8.h"
#include "kernels/reduction_order.h"

namespace octogate::kernels::plain {

inline constexpr int kDenseTileRows = 4;
constexpr int DenseTilePairs(int /*rows*/) { return 1; }
inline constexpr int kManyRowsTile = 4;
inline constexpr int kManyRowsPanels = 1;
inline constexpr int kStreamedRows = 1;
constexpr int Bf16TilePanels(int /*rows*/) { return 1; }

struct F32x16 {
  float lane[kLanes];
};
struct Pair {
  F32x16 even;
  F32x16 odd;
};

template <typename F>
inline F32x16 ForLanes(const F& f) {
  F32x16 result;
  for (int l = 0; l < kLanes; ++l) result.lane[l] = f(l);
  return result;
}

inline F32x16 Zero() { return F32x16{}; }
inline F32x16 Broadcast(float x) {
  return ForLanes([=](int) { return x; });
}
inline F32x16 Load(const float* from) {
  F32x16 result;
  std::memcpy(result.lane, from, sizeof(result.lane));
  return result;
}
inline F32x16 LoadPartial(const float* from, int n) {
  F32x16 result{};
  std::memcpy(result.lane, from, static_cast<size_t>(n) * sizeof(float));
  return result;
}
inline void Store(F32x16 x, float* to) { std::memcpy(to, x.lane, sizeof(x.lane)); }
inline void StorePartial(F32x16 x, float* to, int n) {
  std::memcpy(to, x.lane, static_cast<size_t>(n) * sizeof(float));
}

template <DType T>
inline F32x16 WidenPartial(const void* from, int n) {
  if constexpr (T == DType::kF32) {
    F32x16 result{};
    std::memcpy(result.lane, from, static_cast<size_t>(n) * sizeof(float));
    return result;
  } else if constexpr (SizeOf(T) == 1) {
    uint8_t narrow[kLanes] = {};
    std::memcpy(narrow, from, static_cast<size_t>(n));
    return ForLanes([&](int l) {
      return T == DType::kI8 ? static_cast<float>(static_cast<int8_t>(narrow[l]))
                             : Float8ToFloat(narrow[l]);
    });
  } else {
    uint16_t narrow[kLanes] = {};
    std::memcpy(narrow, from, static_cast<size_t>(n) * sizeof(uint16_t));
    return ForLanes([&](int l) {
      return T == DType::kF16 ? Float16ToFloat(narrow[l]) : BFloat16ToFloat(narrow[l]);
    });
  }
}
template <DType T>
inline F32x16 Widen(const void* from) {
  return WidenPartial<T>(from, kLanes);
}

inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return ForLanes([&](int l) { return std::fma(a.lane[l], b.lane[l], c.lane[l]); });
}
inline F32x16 operator+(F32x16 a, F32x16 b) {
  return ForLanes([&](int l) { return a.lane[l] + b.lane[l]; });
}
inline F32x16 operator-(F32x16 a, F32x16 b) {
  return ForLanes([&](int l) { return a.lane[l] - b.lane[l]; });
}
inline F32x16 operator*(F32x16 a, F32x16 b) {
  return ForLanes([&](int l) { return a.lane[l] * b.lane[l]; });
}
inline F32x16 operator/(F32x16 a, F32x16 b) {
  return ForLanes([&](int l) { return a.lane[l] / b.lane[l]; });
}
inline F32x16 Minimum(F32x16 a, F32x16 b) {
  return ForLanes([&](int l) { return kernels::Minimum(a.lane[l], b.lane[l]); });
}
inline F32x16 Maximum(F32x16 a, F32x16 b) {
  return ForLanes([&](int l) { return kernels::Maximum(a.lane[l], b.lane[l]); });
}
inline F32x16 Abs(F32x16 x) {
  return ForLanes([&](int l) { return std::fabs(x.lane[l]); });
}
inline F32x16 ScaleByPowerOfTwo(F32x16 y, F32x16 rounded) {
  return ForLanes([&](int l) { return kernels::ScaleByPowerOfTwo(y.lane[l], rounded.lane[l]); });
}

inline float SumLanes(F32x16 x) { return kernels::SumLanes(x.lane); }
inline F32x16 SumLanes16(const F32x16* x) {
  return ForLanes([&](int l) { return SumLanes(x[l]); });
}
inline float MaximumLane(F32x16 x) {
  float max = x.lane[0];
  for (int l = 1; l < kLanes; ++l) max = kernels::Maximum(x.lane[l], max);
  return max;
}

template <DType T>
inline Pair LoadPair(const uint8_t* from) {
  if constexpr (T == DType::kBF16) {
    uint16_t both[2 * kLanes];
    std::memcpy(both, from, sizeof(both));
    return {ForLanes([&](int l) { return BFloat16ToFloat(both[2 * l]); }),
            ForLanes([&](int l) { return BFloat16ToFloat(both[2 * l + 1]); })};
  } else if constexpr (T == DType::kF8E4M3) {
    const auto place = [](int l) { return l / 4 * 16 + l % 4 * 2; };
    return {ForLanes([&](int l) { return Float8ToFloat(from[place(l)]) / 256; }),
            ForLanes([&](int l) { return Float8ToFloat(from[place(l) + 1]) / 256; })};
  } else {
    return {Widen<T>(from), Widen<T>(from + kLanes * SizeOf(T))};
  }
}

template <DType T>
inline constexpr int kPairsTogether = 1;
template <DType T>
inline void LoadPairs(const uint8_t* from, Pair (&to)[kPairsTogether<T>]) {
  to[0] = LoadPair<T>(from);
}

struct SubnormalsFlushed {
  SubnormalsFlushed() {}  // the two functions below see to it themselves
};
inline F32x16 FmaFlushed(F32x16 a, F32x16 b, F32x16 c) {
  return ForLanes([&](int l) { return Bf16MultiplyAdd(a.lane[l], b.lane[l], c.lane[l]); });
}
inline F32x16 AddFlushed(F32x16 a, F32x16 b) {
  return ForLanes([&](int l) { return Bf16Add(a.lane[l], b.lane[l]); });
}

}  // namespace octogate::kernels::plain

#endif  // OCTOGATE_KERNELS_CPU_F32X16_PLAIN_H_
