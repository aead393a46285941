// Kernels of top_k.h. A row is cut into pieces of kLogSumExpBlock values. First
// each piece is ranked by itself; then the exponentials of each piece are
// summed, relative to the row's maximum; then the pieces of a row are merged.

#ifndef OCTOGATE_KERNELS_CUDA_TOP_K_CUH_
#define OCTOGATE_KERNELS_CUDA_TOP_K_CUH_

#include <cmath>
#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/lanes.cuh"
#include "kernels/cuda/top_k.h"
#include "kernels/reduction_order.h"

namespace octogate::kernels::cuda {

inline constexpr int kTopKThreads = 256;
inline constexpr int kTopKPiece = kLogSumExpBlock;
inline constexpr int kTopKPerThread = kTopKPiece / kTopKThreads;

// The largest of all threads' ranks, in every thread. `scratch` holds a rank for
// each warp and must not be in use.
OCTOGATE_DEVICE uint64_t BlockMaximum(uint64_t rank, uint64_t* scratch) {
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    const uint32_t high = ShuffleXor(static_cast<uint32_t>(rank >> 32), mask);
    const uint32_t low = ShuffleXor(static_cast<uint32_t>(rank), mask);
    const uint64_t other = static_cast<uint64_t>(high) << 32 | low;
    if (other > rank) rank = other;
  }
  if (Lane() == 0) scratch[Warp()] = rank;
  Barrier();
  rank = 0;
  for (int w = 0; w < BlockThreads() / kWarpThreads; ++w) {
    if (scratch[w] > rank) rank = scratch[w];
  }
  Barrier();
  return rank;
}

// The largest of all threads' values, NaNs left aside, in the first thread. `scratch` holds a value
// for each warp and must not be in use.
OCTOGATE_DEVICE float BlockMaximumOf(float value, float* scratch) {
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    value = Maximum(ShuffleXor(value, mask), value);
  }
  if (Lane() == 0) scratch[Warp()] = value;
  Barrier();
  if (ThreadIndex() == 0) {
    for (int w = 0; w < BlockThreads() / kWarpThreads; ++w) value = Maximum(scratch[w], value);
  }
  Barrier();
  return value;
}

// Of one piece (x) of a row (y): the ranks of its k largest, 0 where it has
// fewer values, and its maximum (NaNs left aside). ranks is [row][piece][k], max
// is [row][piece].
OCTOGATE_KERNEL void RankPieceKernel(const float* logits, int columns, int k, uint64_t* ranks,
                                     float* max) {
  uint64_t* scratch = SharedMemory<uint64_t>();
  const int64_t row = BlockY();
  const int first = BlockX() * kTopKPiece;
  uint64_t own[kTopKPerThread];
  float own_max = -INFINITY;
#pragma unroll
  for (int i = 0; i < kTopKPerThread; ++i) {
    const int c = first + i * kTopKThreads + ThreadIndex();
    own[i] = 0;
    if (c < columns) {
      const float value = logits[row * columns + c];
      own[i] = RankOf(value, c);
      own_max = Maximum(value, own_max);
    }
  }
  const float piece_max = BlockMaximumOf(own_max, reinterpret_cast<float*>(scratch));
  if (ThreadIndex() == 0) max[row * GridX() + BlockX()] = piece_max;
  uint64_t last = ~uint64_t{0};
  for (int n = 0; n < k; ++n) {
    uint64_t best = 0;
#pragma unroll
    for (int i = 0; i < kTopKPerThread; ++i) {
      if (own[i] < last && own[i] > best) best = own[i];
    }
    last = BlockMaximum(best, scratch);
    if (ThreadIndex() == 0) ranks[(row * GridX() + BlockX()) * k + n] = last;
  }
}

OCTOGATE_DEVICE float RowMaximum(const float* max, int pieces) {
  float row_max = -INFINITY;
  for (int p = 0; p < pieces; ++p) row_max = Maximum(max[p], row_max);
  return row_max;
}

// sums[row][piece] of one piece (x) of a row (y), added up in 16 lanes.
OCTOGATE_KERNEL void SumPieceKernel(const float* logits, int columns, const float* max,
                                    float* sums) {
  float* exponentials = SharedMemory<float>();
  const int64_t row = BlockY();
  const int first = BlockX() * kTopKPiece;
  const int count = columns - first < kTopKPiece ? columns - first : kTopKPiece;
  const float row_max = RowMaximum(max + row * GridX(), GridX());
  for (int i = ThreadIndex(); i < kTopKPiece; i += BlockThreads()) {
    exponentials[i] = i < count ? Exp(logits[row * columns + first + i] - row_max) : 0.0f;
  }
  Barrier();
  if (Warp() != 0) return;
  float lane = 0;
#pragma unroll 8
  for (int i = SumLane(); i < kTopKPiece; i += kLanes) lane += exponentials[i];
  const float sum = SumOfLanes(lane);
  if (Lane() == 0) sums[row * GridX() + BlockX()] = sum;
}

// Merges the pieces of one row (x).
OCTOGATE_KERNEL void MergePiecesKernel(const float* logits, int columns, int pieces, int k,
                                       const uint64_t* ranks, const float* piece_max,
                                       const float* piece_sum, int32_t* ids, float* values,
                                       float* max, float* sum) {
  uint64_t* scratch = SharedMemory<uint64_t>();
  // How many ranks of each piece are taken; a thread has its own pieces alone.
  int* taken = reinterpret_cast<int*>(scratch + kTopKThreads / kWarpThreads);
  const int64_t row = BlockX();
  for (int p = ThreadIndex(); p < pieces; p += BlockThreads()) taken[p] = 0;
  if (ThreadIndex() == 0) {
    max[row] = RowMaximum(piece_max + row * pieces, pieces);
    float total = 0;
    for (int p = 0; p < pieces; ++p) total += piece_sum[row * pieces + p];
    sum[row] = total;
  }
  for (int n = 0; n < k; ++n) {
    uint64_t own = 0;
    int own_piece = 0;
    for (int p = ThreadIndex(); p < pieces; p += BlockThreads()) {
      // A piece's ranks descend: its first that is left is its best. Fewer than k
      // are taken of any as yet.
      const uint64_t rank = ranks[(row * pieces + p) * k + taken[p]];
      if (rank <= own) continue;
      own = rank;
      own_piece = p;
    }
    const uint64_t best = BlockMaximum(own, scratch);
    if (own == best) ++taken[own_piece];  // no two ranks are equal
    if (ThreadIndex() == 0) {
      ids[row * k + n] = IndexOf(best);
      values[row * k + n] = logits[row * columns + IndexOf(best)];
    }
  }
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_TOP_K_CUH_
