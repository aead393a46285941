#include <algorithm>

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/launch.h"

namespace octogate::kernels::cuda {
namespace {

template <typename T>
void Attend(Stream stream, AttentionArguments arguments, int chunks, unsigned splits) {
  const Grid grid{static_cast<unsigned>(arguments.rows.count),
                  static_cast<unsigned>(arguments.shape.kv_heads * chunks), splits};
  Launch(stream, grid, kAttentionThreads,
         AttentionSharedBytes(arguments.cache.dtype, arguments.shape.head_dim), AttentionKernel<T>,
         arguments);
}

}  // namespace

void LaunchAttention(Stream stream, const AttentionShape& shape, const KvView& cache, int layer,
                     const StepRows& rows, int last_position, const float* q, int q_stride,
                     int wanted_blocks, const Workspace& workspace, float* out) {
  static_assert(kMaxHeadDim <= 1024);  // AttentionSharedBytes is then below kMaxSharedBytes
  const int chunks = (shape.heads / shape.kv_heads + kAttentionHeads - 1) / kAttentionHeads;
  // Blocks of positions that one row can see at most.
  int blocks = last_position / kAttentionBlock + 1;
  if (shape.sliding_window > 0) {
    blocks = std::min(blocks, (shape.sliding_window - 1) / kAttentionBlock + 2);
  }
  if (RoundedCount(blocks) <= kMaxGridRows) blocks = RoundedCount(blocks);
  AttentionArguments arguments{shape, cache, layer, rows, q, q_stride, nullptr, blocks, out};
  const int thread_blocks = rows.count * shape.kv_heads * chunks;
  const size_t part_bytes = sizeof(float) * static_cast<size_t>(rows.count) *
                            static_cast<size_t>(shape.heads) * static_cast<size_t>(blocks) *
                            static_cast<size_t>(PartFloats(shape.head_dim));
  const bool split = blocks > 1 && blocks <= kMaxGridRows && thread_blocks < wanted_blocks &&
                     part_bytes <= workspace.bytes;
  if (split) arguments.parts = static_cast<float*>(workspace.data);
  const unsigned splits = split ? static_cast<unsigned>(blocks) : 1;
  switch (cache.dtype) {
    case DType::kF32:
      Attend<float>(stream, arguments, chunks, splits);
      break;
    case DType::kF16:
      Attend<F16>(stream, arguments, chunks, splits);
      break;
    case DType::kBF16:
      Attend<Bf16>(stream, arguments, chunks, splits);
      break;
    case DType::kF8E4M3:
      Attend<F8>(stream, arguments, chunks, splits);
      break;
    case DType::kI8:
      Attend<I8>(stream, arguments, chunks, splits);
      break;
  }
  if (!split) return;
  const Grid grid{static_cast<unsigned>(rows.count), static_cast<unsigned>(shape.heads)};
  Launch(stream, grid, kAttentionThreads, 0, MergePartsKernel, arguments);
}

}  // namespace octogate::kernels::cuda
