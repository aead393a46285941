// Operations on rows that need no reduction, on the device. Pointers are device
// memory; what each computes says kernels/backend.h. The arithmetic is that of
// kernels/elementary.h and kernels/float16.h without contraction, so the bits
// are the CPU's.

#ifndef OCTOGATE_KERNELS_CUDA_ELEMENTWISE_H_
#define OCTOGATE_KERNELS_CUDA_ELEMENTWISE_H_

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/logit_edit.h"

namespace octogate::kernels::cuda {

void LaunchSiluMul(Stream stream, const float* gate_up, int rows, int columns, float* out);
void LaunchGeluMul(Stream stream, const float* gate_up, int rows, int columns,
                   bool tanh_approximation, float* out);

// out[i] = x[rows[i]].
void LaunchGatherRows(Stream stream, const float* x, const int32_t* rows, int count, int columns,
                      float* out);

// Backend::EditLogits.
void LaunchEditLogits(Stream stream, const LogitEdit* edits, int count, int columns, float* logits);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_ELEMENTWISE_H_
