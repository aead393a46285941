// The largest logits of each row on the CPU.

#ifndef OCTOGATE_KERNELS_CPU_TOP_K_H_
#define OCTOGATE_KERNELS_CPU_TOP_K_H_

#include <cstdint>
#include <span>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/thread_pool.h"

namespace octogate::kernels {

// Arguments as in Backend::TopK. Allocates nothing.
void CpuTopK(const KernelTable& kernels, ThreadPool& pool, const float* logits, int rows,
             int columns, int k, std::span<int32_t> ids, std::span<float> values,
             std::span<float> log_sum_exp);

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_TOP_K_H_
