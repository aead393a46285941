// Kernels of draw.h. A row is cut into the pieces of top_k.cuh, each of which is some whole blocks
// of the draw. First the largest value of each piece is found; then the weights of each block are
// summed, relative to the row's largest; then one thread block draws from these sums and from the
// weights of the block that they choose, in the order that kernels/draw.h gives.

#ifndef OCTOGATE_KERNELS_CUDA_DRAW_CUH_
#define OCTOGATE_KERNELS_CUDA_DRAW_CUH_

#include <cmath>
#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/lanes.cuh"
#include "kernels/cuda/top_k.cuh"
#include "kernels/draw.h"
#include "kernels/elementary.h"

namespace octogate::kernels::cuda {

static_assert(kTopKPiece % kDrawBlock == 0 && kTopKThreads == kDrawBlock);

OCTOGATE_DEVICE float DrawWeight(float logit, float max, float scale) {
  return Exp((logit - max) * scale);
}

// max[draw][piece] of one piece (x) of a draw's row (y).
OCTOGATE_KERNEL void DrawMaximumKernel(const float* logits, int columns, const LogitDraw* draws,
                                       float* max) {
  const float* row = logits + static_cast<int64_t>(draws[BlockY()].row) * columns;
  const int first = BlockX() * kTopKPiece;
  const int end = columns - first < kTopKPiece ? columns : first + kTopKPiece;
  float own_max = -INFINITY;
  for (int c = first + ThreadIndex(); c < end; c += BlockThreads()) {
    own_max = Maximum(row[c], own_max);
  }
  own_max = BlockMaximumOf(own_max, SharedMemory<float>());
  if (ThreadIndex() == 0) max[BlockY() * GridX() + BlockX()] = own_max;
}

// sums[draw][block] of the blocks in one piece (x) of a draw's row (y), each by half a warp.
OCTOGATE_KERNEL void SumDrawBlocksKernel(const float* logits, int columns, const LogitDraw* draws,
                                         const float* max, int blocks, float* sums) {
  const LogitDraw draw = draws[BlockY()];
  const float* row = logits + static_cast<int64_t>(draw.row) * columns;
  const float row_max = RowMaximum(max + static_cast<int64_t>(BlockY()) * GridX(), GridX());
  const int block = BlockX() * (kTopKPiece / kDrawBlock) + HalfWarp();
  const int first = block * kDrawBlock;
  float lane = 0;
  for (int i = SumLane(); i < kDrawBlock; i += kLanes) {
    if (first + i < columns) lane += DrawWeight(row[first + i], row_max, draw.scale);
  }
  const float sum = SumOfLanes(lane);
  if (SumLane() == 0 && block < blocks) {
    sums[static_cast<int64_t>(BlockY()) * blocks + block] = sum;
  }
}

// Draws from one row (x). Shared memory has the sums of its blocks, behind a rank for each warp and
// the weights of a block.
OCTOGATE_KERNEL void DrawKernel(const float* logits, int columns, const LogitDraw* draws,
                                const float* max, int pieces, const float* sums, int blocks,
                                int32_t* ids, float* values) {
  uint64_t* scratch = SharedMemory<uint64_t>();
  float* weights = reinterpret_cast<float*>(scratch + kTopKThreads / kWarpThreads);
  float* block_sums = weights + kDrawBlock;
  int* shared_drawn = reinterpret_cast<int*>(scratch);
  const LogitDraw draw = draws[BlockX()];
  const float* row = logits + static_cast<int64_t>(draw.row) * columns;
  const float row_max = RowMaximum(max + static_cast<int64_t>(BlockX()) * pieces, pieces);
  for (int b = ThreadIndex(); b < blocks; b += BlockThreads()) {
    block_sums[b] = sums[static_cast<int64_t>(BlockX()) * blocks + b];
  }
  Barrier();
  DrawnBlock drawn;
  if (ThreadIndex() == 0) {
    drawn = DrawBlock(block_sums, blocks, draw.uniform);
    shared_drawn[0] = drawn.block;
  }
  Barrier();
  const int block = shared_drawn[0];
  if (block < 0) {
    if (ThreadIndex() == 0) {
      ids[BlockX()] = -1;
      values[BlockX()] = 0;
    }
    return;
  }
  const int first = block * kDrawBlock;
  const int count = columns - first < kDrawBlock ? columns - first : kDrawBlock;
  if (ThreadIndex() < count) {
    weights[ThreadIndex()] = DrawWeight(row[first + ThreadIndex()], row_max, draw.scale);
  }
  Barrier();
  if (ThreadIndex() == 0) {
    const int i = DrawInBlock(weights, count, drawn.left);
    shared_drawn[0] = i < 0 ? -1 : first + i;
  }
  Barrier();
  int id = shared_drawn[0];
  Barrier();
  if (id < 0) {
    uint64_t best = 0;
    for (int c = ThreadIndex(); c < columns; c += BlockThreads()) {
      const uint64_t rank = RankOf(row[c], c);
      if (rank > best) best = rank;
    }
    id = IndexOf(BlockMaximum(best, scratch));
  }
  if (ThreadIndex() == 0) {
    ids[BlockX()] = id;
    values[BlockX()] = row[id];
  }
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_DRAW_CUH_
