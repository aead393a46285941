#include <algorithm>

#include "kernels/cuda/draw.cuh"
#include "kernels/cuda/draw.h"
#include "kernels/cuda/launch.h"

namespace octogate::kernels::cuda {
namespace {

size_t Pieces(int columns) { return BlocksFor(columns, kTopKPiece); }
size_t Blocks(int columns) { return BlocksFor(columns, kDrawBlock); }

}  // namespace

size_t DrawWorkspaceBytes(int columns) {
  return sizeof(float) * (Pieces(columns) + Blocks(columns));
}

void LaunchDraw(Stream stream, const float* logits, int columns, const LogitDraw* draws, int count,
                const Workspace& workspace, int32_t* ids, float* values) {
  const size_t pieces = Pieces(columns);
  const size_t blocks = Blocks(columns);
  constexpr size_t kScratch = sizeof(uint64_t) * (kTopKThreads / kWarpThreads);
  const int at_once = std::min(count, kMaxGridRows);
  auto* max = static_cast<float*>(workspace.data);
  float* sums = max + pieces * static_cast<size_t>(at_once);
  for (int first = 0; first < count; first += at_once) {
    const auto rows = static_cast<unsigned>(std::min(at_once, count - first));
    const Grid grid{static_cast<unsigned>(pieces), rows};
    Launch(stream, grid, kTopKThreads, kScratch, DrawMaximumKernel, logits, columns, draws + first,
           max);
    Launch(stream, grid, kTopKThreads, 0, SumDrawBlocksKernel, logits, columns, draws + first, max,
           static_cast<int>(blocks), sums);
    Launch(stream, Grid{rows}, kTopKThreads, kScratch + sizeof(float) * (kDrawBlock + blocks),
           DrawKernel, logits, columns, draws + first, max, static_cast<int>(pieces), sums,
           static_cast<int>(blocks), ids + first, values + first);
  }
}

}  // namespace octogate::kernels::cuda
