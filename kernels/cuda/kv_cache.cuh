// Kernels of kv_cache.h.

#ifndef OCTOGATE_KERNELS_CUDA_KV_CACHE_CUH_
#define OCTOGATE_KERNELS_CUDA_KV_CACHE_CUH_

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/kv_cache.h"

namespace octogate::kernels::cuda {

inline constexpr int kKvThreads = 128;

// A block writes one row.
template <typename T>
OCTOGATE_KERNEL void WriteKvKernel(KvView cache, int layer, StepRows rows, const float* keys,
                                   const float* values, int stride) {
  const StepRow row = rows.rows[BlockX()];
  const int page = rows.pages[row.first_page + row.slot / cache.page_size];
  const int in_page = row.slot % cache.page_size;
  T* data = static_cast<T*>(cache.data);
  const int64_t from = static_cast<int64_t>(row.row) * stride;
  for (int c = ThreadIndex(); c < cache.kv_heads * cache.head_dim; c += BlockThreads()) {
    const int64_t to =
        KeyOffset(cache, page, layer, c / cache.head_dim, in_page) + c % cache.head_dim;
    data[to] = FromFloat<T>(keys[from + c]);
    data[to + ValueDistance(cache)] = FromFloat<T>(values[from + c]);
  }
}

// A block moves one kv head of one layer. Each thread keeps to its own columns,
// and the rows are ascending, so that what is moved is read before it is
// written over.
template <typename T>
OCTOGATE_KERNEL void MoveKvKernel(KvView cache, const int32_t* pages, int first_position,
                                  const int32_t* rows, int count) {
  const int layer = BlockX();
  const int kv_head = BlockY();
  T* data = static_cast<T*>(cache.data);
  const auto offset = [&](int slot) {
    return KeyOffset(cache, pages[slot / cache.page_size], layer, kv_head, slot % cache.page_size);
  };
  for (int i = 0; i < count; ++i) {
    if (rows[i] == i) continue;
    const int64_t from = offset(first_position + rows[i]);
    const int64_t to = offset(first_position + i);
    for (int c = ThreadIndex(); c < cache.head_dim; c += BlockThreads()) {
      data[to + c] = data[from + c];
      data[to + c + ValueDistance(cache)] = data[from + c + ValueDistance(cache)];
    }
  }
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_KV_CACHE_CUH_
