// Attention of all rows of a step on the CPU: cuts it into tasks for the
// threads and the tasks into tiles for the kernels.

#ifndef OCTOGATE_KERNELS_CPU_ATTENTION_H_
#define OCTOGATE_KERNELS_CPU_ATTENTION_H_

#include <cstddef>
#include <span>

#include "kernels/backend.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/host_kv_cache.h"
#include "kernels/host_memory.h"

namespace octogate::kernels {

// Memory for the partial results of rows whose context is split over threads;
// shared by the operations of one backend.
struct AttentionScratch {
  HostArray<float> floats;
  size_t size = 0;
};

// Arguments as in Backend::Attention.
void CpuAttention(const KernelTable& kernels, ThreadPool& pool, const AttentionShape& shape,
                  const HostKvCache& cache, int layer, std::span<const SequenceRows> sequences,
                  const float* q, int q_stride, AttentionScratch& scratch, float* out);

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_ATTENTION_H_
