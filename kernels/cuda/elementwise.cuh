// Kernels of elementwise.h: one thread for each output, blocks along a row.

#ifndef OCTOGATE_KERNELS_CUDA_ELEMENTWISE_CUH_
#define OCTOGATE_KERNELS_CUDA_ELEMENTWISE_CUH_

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/elementary.h"
#include "kernels/logit_edit.h"

namespace octogate::kernels::cuda {

inline constexpr int kElementwiseThreads = 256;

// The column of this thread; blocks of x cover a row, blocks of y the rows in
// strides, since a grid has at most 65535 of them.
OCTOGATE_DEVICE int Column() { return BlockX() * BlockThreads() + ThreadIndex(); }

enum class Activation { kSilu, kGeluTanh, kGeluErf };

template <Activation kActivation>
OCTOGATE_KERNEL void GateMulKernel(const float* gate_up, int rows, int columns, float* out) {
  const int c = Column();
  if (c >= columns) return;
  for (int64_t r = BlockY(); r < rows; r += GridY()) {
    const float gate = gate_up[2 * r * columns + c];
    const float up = gate_up[(2 * r + 1) * columns + c];
    float activated;
    if constexpr (kActivation == Activation::kSilu) {
      activated = Silu(gate);
    } else if constexpr (kActivation == Activation::kGeluTanh) {
      activated = GeluTanh(gate);
    } else {
      activated = GeluErf(gate);
    }
    out[r * columns + c] = activated * up;
  }
}

OCTOGATE_KERNEL void GatherRowsKernel(const float* x, int columns, const int32_t* rows, int count,
                                      float* out) {
  const int c = Column();
  if (c >= columns) return;
  for (int64_t r = BlockY(); r < count; r += GridY()) {
    out[r * columns + c] = x[static_cast<int64_t>(rows[r]) * columns + c];
  }
}

// One thread for each edit.
OCTOGATE_KERNEL void EditLogitsKernel(const LogitEdit* edits, int count, int columns,
                                      float* logits) {
  const int i = Column();
  if (i >= count) return;
  const LogitEdit edit = edits[i];
  float* const logit = logits + static_cast<int64_t>(edit.row) * columns + edit.id;
  *logit = Edited(*logit, edit);
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_ELEMENTWISE_CUH_
