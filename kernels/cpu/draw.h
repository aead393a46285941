// Drawing from rows of logits (kernels/draw.h) in the host's memory.

#ifndef OCTOGATE_KERNELS_CPU_DRAW_H_
#define OCTOGATE_KERNELS_CPU_DRAW_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/draw.h"

namespace octogate::kernels {

// The index that `draw` chooses from a row, or -1, with the best instructions that the CPU has. Its
// `row` has no effect. `sums` is scratch.
int32_t DrawFromRow(std::span<const float> logits, const LogitDraw& draw, std::vector<float>& sums);

// Arguments as in Backend::Draw; `sums` is scratch.
void CpuDraw(const KernelTable& kernels, ThreadPool& pool, const float* logits, int columns,
             std::span<const LogitDraw> draws, std::vector<float>& sums, std::span<int32_t> ids,
             std::span<float> values);

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_DRAW_H_
