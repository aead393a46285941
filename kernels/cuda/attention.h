// Paged attention on the device, for chains and trees of rows, over keys and values
// of any type and heads of any size; where it fits, tensor_attention.h is faster.
//
// The order of the operations is that of kernels/reduction_order.h, so the bits
// are the CPU's: positions in blocks of kAttentionBlock, merged in ascending
// order. A block of positions is the unit of work: where rows are few and the
// context is long, every block is computed on its own and the parts are merged
// by a second kernel; where rows are many, one thread block computes all of
// them, one behind the other, and merges as it goes. Both do the same
// operations on the same numbers, so the choice does not show.
//
// Keys and values are shared by the heads of a group within a thread block, but
// not by rows: arithmetic is on CUDA cores.

#ifndef OCTOGATE_KERNELS_CUDA_ATTENTION_H_
#define OCTOGATE_KERNELS_CUDA_ATTENTION_H_

#include "kernels/backend.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/step_rows.h"
#include "kernels/cuda/stream.h"

namespace octogate::kernels::cuda {

// Backend::Attention; `rows` are on the device, last_position is the largest of
// their positions. Thread blocks beyond `wanted_blocks` are no gain.
void LaunchAttention(Stream stream, const AttentionShape& shape, const KvView& cache, int layer,
                     const StepRows& rows, int last_position, const float* q, int q_stride,
                     int wanted_blocks, const Workspace& workspace, float* out);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_ATTENTION_H_
