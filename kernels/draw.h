// Drawing an index from a row of logits, defined to the bit: every backend draws the same one.
//
// With m the largest logit of the row, index i weighs w[i] = Exp((x[i] - m) * scale), in float.
// S[b] is the sum of the weights of the b-th block of kDrawBlock indices, in lanes
// (kernels/reduction_order.h). The rest is in double: uniform * (S[0] + S[1] + ...) is reduced by
// S[0], S[1], ... in that order up to the block in which it would fall below 0, or the last; and
// there by w[i] for ascending i up to the index in which it does, which is the one drawn. Where
// rounding leaves a remainder it is the block's last index with a weight above 0, or that of m, of
// equals the first, where the block has none.
#ifndef OCTOGATE_KERNELS_DRAW_H_
#define OCTOGATE_KERNELS_DRAW_H_

#include <cstdint>

#include "kernels/host_device.h"

namespace octogate::kernels {

inline constexpr int kDrawBlock = 256;

struct LogitDraw {
  double uniform = 0;  // in [0, 1)
  float scale = 1;     // finite, above 0: 1 / temperature
  int32_t row = 0;
};

struct DrawnBlock {
  int block = -1;  // -1: the sum of the weights is NaN, and nothing can be drawn
  double left = 0;
};

// The first step, from S[0] to S[blocks - 1].
OCTOGATE_HOST_DEVICE inline DrawnBlock DrawBlock(const float* sums, int blocks, double uniform) {
  double total = 0;
  for (int b = 0; b < blocks; ++b) total += static_cast<double>(sums[b]);
  if (!(total > 0)) return {};
  DrawnBlock drawn{0, uniform * total};
  for (; drawn.block + 1 < blocks; ++drawn.block) {
    const double sum = static_cast<double>(sums[drawn.block]);
    if (drawn.left < sum) break;
    drawn.left -= sum;
  }
  return drawn;
}

// The second, from the weights of the block's `count` indices: -1 where none has any.
OCTOGATE_HOST_DEVICE inline int DrawInBlock(const float* weights, int count, double left) {
  int drawn = -1;
  for (int i = 0; i < count; ++i) {
    if (weights[i] == 0) continue;
    drawn = i;
    left -= static_cast<double>(weights[i]);
    if (left < 0) break;
  }
  return drawn;
}

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_DRAW_H_
