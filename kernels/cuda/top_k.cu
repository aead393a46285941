#include <algorithm>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/top_k.cuh"
#include "kernels/cuda/top_k.h"

namespace octogate::kernels::cuda {
namespace {

size_t Pieces(int columns) { return BlocksFor(columns, kTopKPiece); }

}  // namespace

size_t TopKWorkspaceBytes(int columns, int k) {
  return Pieces(columns) * (sizeof(uint64_t) * static_cast<size_t>(k) + 2 * sizeof(float));
}

void LaunchTopK(Stream stream, const float* logits, int rows, int columns, int k,
                const Workspace& workspace, int32_t* ids, float* values, float* max, float* sum) {
  const size_t pieces = Pieces(columns);
  const size_t scratch = sizeof(uint64_t) * (kTopKThreads / kWarpThreads);
  const int at_once = std::min(rows, kMaxGridRows);
  auto* ranks = static_cast<uint64_t*>(workspace.data);
  auto* piece_max = reinterpret_cast<float*>(ranks + pieces * static_cast<size_t>(at_once * k));
  float* piece_sum = piece_max + pieces * static_cast<size_t>(at_once);
  for (int first = 0; first < rows; first += at_once) {
    const int count = std::min(at_once, rows - first);
    const float* part = logits + static_cast<size_t>(first) * static_cast<size_t>(columns);
    const Grid grid{static_cast<unsigned>(pieces), static_cast<unsigned>(count)};
    Launch(stream, grid, kTopKThreads, scratch, RankPieceKernel, part, columns, k, ranks,
           piece_max);
    Launch(stream, grid, kTopKThreads, sizeof(float) * kTopKPiece, SumPieceKernel, part, columns,
           piece_max, piece_sum);
    Launch(stream, Grid{static_cast<unsigned>(count)}, kTopKThreads, scratch + sizeof(int) * pieces,
           MergePiecesKernel, part, columns, static_cast<int>(pieces), k, ranks, piece_max,
           piece_sum, ids + first * k, values + first * k, max + first, sum + first);
  }
}

}  // namespace octogate::kernels::cuda
