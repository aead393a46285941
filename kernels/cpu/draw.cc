#include "kernels/cpu/draw.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>

#include "kernels/cpu/isa.h"
#include "kernels/elementary.h"

namespace octogate::kernels {
namespace {

const KernelTable& BestKernels() {
#if defined(__x86_64__)
  if (IsSupported(Isa::kAvx512)) return Avx512Kernels();
  if (IsSupported(Isa::kAvx2)) return Avx2Kernels();
#endif
  return PlainKernels();
}

int DrawBlocks(int columns) { return (columns + kDrawBlock - 1) / kDrawBlock; }

// `sums` has room for the row's blocks.
int32_t DrawFrom(const KernelTable& kernels, const float* row, int columns, const LogitDraw& draw,
                 float* sums) {
  const float max = kernels.maximum(row, columns);
  const auto count_of = [&](int block) {
    return std::min(kDrawBlock, columns - block * kDrawBlock);
  };
  const int blocks = DrawBlocks(columns);
  for (int b = 0; b < blocks; ++b) {
    const float* block = row + static_cast<std::ptrdiff_t>(b) * kDrawBlock;
    sums[b] = kernels.sum_exp(block, count_of(b), max, draw.scale);
  }
  const DrawnBlock drawn = DrawBlock(sums, blocks, draw.uniform);
  if (drawn.block < 0) return -1;
  const int first = drawn.block * kDrawBlock;
  const int count = count_of(drawn.block);
  std::array<float, kDrawBlock> weights;
  for (int i = 0; i < count; ++i) {
    weights[static_cast<size_t>(i)] = Exp((row[first + i] - max) * draw.scale);
  }
  const int i = DrawInBlock(weights.data(), count, drawn.left);
  if (i >= 0) return first + i;
  return static_cast<int32_t>(std::find(row, row + columns, max) - row);
}

}  // namespace

int32_t DrawFromRow(std::span<const float> logits, const LogitDraw& draw,
                    std::vector<float>& sums) {
  static const KernelTable& kernels = BestKernels();
  const auto columns = static_cast<int>(logits.size());
  sums.resize(static_cast<size_t>(DrawBlocks(columns)));
  return DrawFrom(kernels, logits.data(), columns, draw, sums.data());
}

void CpuDraw(const KernelTable& kernels, ThreadPool& pool, const float* logits, int columns,
             std::span<const LogitDraw> draws, std::vector<float>& sums, std::span<int32_t> ids,
             std::span<float> values) {
  assert(ids.size() >= draws.size() && values.size() >= draws.size());
  const auto blocks = static_cast<size_t>(DrawBlocks(columns));
  sums.resize(std::max(sums.size(), draws.size() * blocks));
  pool.Run(static_cast<int>(draws.size()), [&](int d, int /*thread*/) {
    const auto i = static_cast<size_t>(d);
    const float* row = logits + static_cast<size_t>(draws[i].row) * static_cast<size_t>(columns);
    ids[i] = DrawFrom(kernels, row, columns, draws[i], sums.data() + i * blocks);
    values[i] = ids[i] < 0 ? 0 : row[ids[i]];
  });
}

}  // namespace octogate::kernels
