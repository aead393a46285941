// Dot products of integer codes, sixteen outputs at a time, in plain loops. Same
// interface as the other codes_*.h, which say less.
//
// The interface, in namespace octogate::kernels::<isa>:
//   Codes         64 bytes of a panel: four columns of sixteen outputs, unsigned;
//                 LoadCodes, LowNibbles and HighNibbles.
//   Quad          four signed bytes of x, for all outputs; BroadcastQuad.
//   Int8Dot       sums of (code - 128) * x over a group, one for each output:
//                 Start(sum of the group's x), Add(codes, quad), Result().
//   Int4Dot       the same of (code - 8) * x.
//   kMaxTileRows  rows of x in a tile.

#ifndef OCTOGATE_KERNELS_CPU_CODES_PLAIN_H_
#define OCTOGATE_KERNELS_CPU_CODES_PLAIN_H_

#include <cstring>

#include "kernels/cpu/f32x16_plain.h"
#include "kernels/float8.h"

namespace octogate::kernels::plain {

inline constexpr int kMaxTileRows = 2;

struct Codes {
  uint8_t value[4 * kLanes];
};
inline Codes LoadCodes(const uint8_t* from) {
  Codes codes;
  std::memcpy(codes.value, from, sizeof(codes.value));
  return codes;
}
inline Codes LowNibbles(Codes codes) {
  for (uint8_t& value : codes.value) value &= 0x0F;
  return codes;
}
inline Codes HighNibbles(Codes codes) {
  for (uint8_t& value : codes.value) value = static_cast<uint8_t>(value >> 4);
  return codes;
}

struct Quad {
  int8_t value[4];
};
inline Quad BroadcastQuad(const int8_t* from) {
  Quad quad;
  std::memcpy(quad.value, from, sizeof(quad.value));
  return quad;
}

template <int kZero>  // the code of zero
struct IntegerDot {
  int32_t lane[kLanes];

  static IntegerDot Start(int32_t x_sum) {
    IntegerDot dot;
    for (int32_t& lane : dot.lane) lane = -kZero * x_sum;
    return dot;
  }
  void Add(const Codes& codes, const Quad& x) {
    for (int l = 0; l < kLanes; ++l) {
      for (int i = 0; i < 4; ++i) lane[l] += codes.value[4 * l + i] * x.value[i];
    }
  }
  F32x16 Result() const {
    return ForLanes([&](int l) { return static_cast<float>(lane[l]); });
  }
};
using Int8Dot = IntegerDot<128>;
using Int4Dot = IntegerDot<8>;

}  // namespace octogate::kernels::plain

#endif  // OCTOGATE_KERNELS_CPU_CODES_PLAIN_H_
